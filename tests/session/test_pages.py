"""Large pages are asked for where that is possible, once it pays, and change nothing but the time."""

import math
import mmap
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsal.session import Session, pages
from onnxsal.session.pages import LARGE, LargePages

LISTING = """\
00200000-00a00000 rw-p 00000000 00:00 0                                  [heap]
00c00000-01000000 r--p 00000000 08:01 77                                 /usr/lib/libc.so.6
01000000-01600000 rw-p 00000000 00:00 0
01800000-01c00000 rw-p 00000000 00:00 0                                  [anon:arena]
02000000-02400000 rw-s 00000000 00:01 99                                 /dev/shm/shared
02400000-02800000 rw-p 00000000 00:00 0                                  [stack]
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system that gives large pages at a second each, and lists what is in `maps`."""
    monkeypatch.setattr(pages, "MAPS", tmp_path / "maps")
    monkeypatch.setattr(pages, "POLICY", tmp_path / "enabled")
    monkeypatch.setattr(pages, "seconds_for_one", lambda: 1.0)
    asked: list[int] = []
    monkeypatch.setattr(pages, "_advise", lambda block, advice: asked.append(block) or True)
    monkeypatch.setattr(pages.time, "perf_counter", lambda: float(len(set(asked))))
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    (tmp_path / "maps").write_text("")
    return tmp_path, asked


def listing(*spans):
    return "".join(f"{a:08x}-{b:08x} rw-p 00000000 00:00 0 \n" for a, b in spans)


def test_private_memory_is_what_has_no_file_and_is_no_stack(system):
    (system[0] / "maps").write_text(LISTING)
    assert pages.private_memory() == [(0x200000, 0xA00000), (0x1000000, 0x1600000), (0x1800000, 0x1C00000)]


@pytest.mark.parametrize(
    ("memory", "before", "blocks"),
    [
        ([(0, 3 * LARGE)], [], [0, 1, 2]),
        ([(1, 3 * LARGE)], [], [1, 2]),
        ([(0, 3 * LARGE - 1)], [], [0, 1]),
        ([(LARGE - 1, 2 * LARGE - 1)], [], []),
        ([(0, 6 * LARGE)], [(0, 2 * LARGE)], [2, 3, 4, 5]),
        ([(0, 6 * LARGE)], [(LARGE, 2 * LARGE), (4 * LARGE + 1, 5 * LARGE)], [0, 2, 3, 5]),
        ([(0, 2 * LARGE)], [(0, 9 * LARGE)], []),
        ([(4 * LARGE, 6 * LARGE)], [(0, 2 * LARGE), (8 * LARGE, 9 * LARGE)], [4, 5]),
    ],
)
def test_blocks_are_whole_and_new(memory, before, blocks):
    assert [block // LARGE for block in pages.large_blocks(memory, before)] == blocks


def test_nothing_is_asked_before_runs_have_taken_what_makes_it_pay(system):
    folder, asked = system
    session = LargePages()
    (folder / "maps").write_text(listing((0, 4 * LARGE)))
    session.after_run(4 / pages.GAIN - 1)
    assert not asked
    assert not session.settled
    session.after_run(1)
    assert set(asked) == {0, LARGE, 2 * LARGE, 3 * LARGE}
    assert session.settled


def test_what_was_there_before_the_session_is_left_alone(system):
    folder, asked = system
    (folder / "maps").write_text(listing((0, 4 * LARGE)))
    session = LargePages()
    (folder / "maps").write_text(listing((0, 5 * LARGE)))
    session.after_run(100)
    assert set(asked) == {4 * LARGE}


def test_memory_that_comes_later_is_asked_for_when_runs_have_taken_twice_as_long(system):
    folder, asked = system
    session = LargePages()
    (folder / "maps").write_text(listing((0, LARGE)))
    session.after_run(100)
    (folder / "maps").write_text(listing((0, 2 * LARGE)))
    session.after_run(99)
    assert set(asked) == {0}
    session.after_run(1)
    assert sorted(set(asked)) == [0, LARGE]
    assert len(asked) == 4  # two kinds of advice each, and never twice


def test_asking_that_takes_longer_than_thought_is_left_for_later(system, monkeypatch):
    folder, asked = system
    monkeypatch.setattr(pages, "seconds_for_one", lambda: 0.1)
    session = LargePages()
    (folder / "maps").write_text(listing((0, 30 * LARGE)))
    session.after_run(3 / pages.GAIN)
    assert len(set(asked)) == 7  # the first that ends after twice the three seconds it was thought to take


@pytest.mark.parametrize("policy", ["[always] madvise never", "always madvise [never]", None])
def test_where_all_or_no_one_gets_large_pages_nothing_is_asked(system, policy):
    folder, asked = system
    (folder / "enabled").unlink() if policy is None else (folder / "enabled").write_text(policy)
    session = LargePages()
    (folder / "maps").write_text(listing((0, 4 * LARGE)))
    session.after_run(1000)
    assert not asked
    assert session.settled


def test_a_system_that_moves_nothing_is_not_asked_twice(system, monkeypatch):
    folder, asked = system
    monkeypatch.setattr(pages, "seconds_for_one", lambda: None)
    session = LargePages()
    (folder / "maps").write_text(listing((0, 4 * LARGE)))
    session.after_run(1000)
    session.after_run(math.inf)
    assert not asked
    assert session.settled


# ----- This machine -----

gives = pytest.mark.skipif(
    not pages.are_given() or pages.seconds_for_one() is None, reason="this system gives no large pages to who asks"
)


def large_pages_in_use():
    found = re.search(r"AnonHugePages: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    assert found
    return int(found[1]) * 1024


@gives
def test_advice_moves_memory_and_keeps_what_is_in_it():
    with mmap.mmap(-1, 8 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        array = np.frombuffer(memory, np.uint32)
        array[:] = np.arange(array.size)
        start = array.__array_interface__["data"][0]
        before = large_pages_in_use()
        for block in pages.large_blocks([(start, start + len(memory))], []):
            assert pages._advise(block, pages.COLLAPSE)
        assert large_pages_in_use() - before >= 6 * LARGE
        assert (array == np.arange(array.size)).all()
        del array


@gives
def test_a_session_that_has_run_for_long_works_in_large_pages_and_gives_the_same(monkeypatch):
    monkeypatch.setattr(pages, "GAIN", 1e9)
    monkeypatch.setattr(pages, "FIRST_LOOK", 0.0)
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) {a = Exp(x) y = Sin(a)}'
    session = Session(onnx.parser.parse_model(text).SerializeToString(), ["CPUExecutionProvider"])
    feeds = {"x": np.random.default_rng(0).standard_normal(1 << 22).astype(np.float32)}  # 16 MB
    before = large_pages_in_use()
    first = session.run(feeds)["y"]
    second = session.run(feeds)["y"]
    assert large_pages_in_use() - before >= 4 * LARGE
    np.testing.assert_array_equal(first, second)
