"""Large pages are asked for where that is possible, once it pays, and change nothing but the time."""

import mmap
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsal.session import Session, pages
from onnxsal.session.pages import LARGE, LargePages, Mapping

DESCRIBED = """\
00200000-00a00000 rw-p 00000000 00:00 0                                  [heap]
Size:               8192 kB
Rss:                6144 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr
00c00000-01000000 r--p 00000000 08:01 77                                 /usr/lib/libc.so.6
Rss:                4096 kB
AnonHugePages:         0 kB
01000000-01600000 rw-p 00000000 00:00 0
Rss:                6144 kB
AnonHugePages:         0 kB
01800000-01c00000 rw-p 00000000 00:00 0                                  [anon:arena]
Rss:                   0 kB
AnonHugePages:         0 kB
02000000-02400000 rw-s 00000000 00:01 99                                 /dev/shm/shared
Rss:                4096 kB
AnonHugePages:         0 kB
02400000-02800000 rw-p 00000000 00:00 0                                  [stack]
Rss:                4096 kB
AnonHugePages:         0 kB
"""


class System:
    """A system that gives large pages at a second each, for memory that `holds` says is there."""

    def __init__(self, folder):
        self.folder = folder
        self.large: set[int] = set()
        self.asked: list[int] = []
        self.policy("always [madvise] never\n")
        (folder / "size").write_text(f"{LARGE}\n")
        self.holds()

    def policy(self, text):
        (self.folder / "enabled").write_text(text)

    def holds(self, *spans, heap=False):
        """Have memory from the first up to the second of each pair, in large blocks."""
        self.spans = [(a * LARGE, b * LARGE) for a, b in spans]
        self.path = " [heap]" if heap else ""
        self.write()

    def write(self):
        lines = []
        for a, b in self.spans:
            large = sum(a <= block < b for block in self.large) * LARGE >> 10
            lines.append(f"{a:08x}-{b:08x} rw-p 00000000 00:00 0{self.path}\n")
            lines.append(f"Rss: {b - a >> 10} kB\nAnonHugePages: {large} kB\n")
        (self.folder / "smaps").write_text("".join(lines))

    def advise(self, block, advice):
        self.asked.append(block // LARGE)
        if advice == pages.COLLAPSE:
            self.large.add(block)
            self.write()
        return True

    def clock(self):
        return float(len(self.large))


@pytest.fixture
def system(tmp_path, monkeypatch):
    made = System(tmp_path)
    for name, file in (("SMAPS", "smaps"), ("POLICY", "enabled"), ("SIZE", "size")):
        monkeypatch.setattr(pages, name, tmp_path / file)
    monkeypatch.setattr(pages, "seconds_for_one", lambda: 1.0)
    monkeypatch.setattr(pages, "_advise", made.advise)
    monkeypatch.setattr(pages.time, "perf_counter", made.clock)
    return made


def test_a_process_own_memory_is_what_has_no_file_and_is_no_stack(system):
    (system.folder / "smaps").write_text(DESCRIBED)
    assert list(pages.own_memory()) == [
        Mapping(0x200000, 0xA00000, heap=True, small=4 << 20),
        Mapping(0x1000000, 0x1600000, heap=False, small=6 << 20),
        Mapping(0x1800000, 0x1C00000, heap=False, small=0),
    ]


@pytest.mark.parametrize(
    ("memory", "before", "blocks"),
    [
        ((0, 3 * LARGE), [], [0, 1, 2]),
        ((1, 3 * LARGE), [], [1, 2]),
        ((0, 3 * LARGE - 1), [], [0, 1]),
        ((LARGE - 1, 2 * LARGE - 1), [], []),
        ((0, 6 * LARGE), [(0, 2 * LARGE)], [2, 3, 4, 5]),
        ((0, 6 * LARGE), [(LARGE, 2 * LARGE), (4 * LARGE + 1, 5 * LARGE)], [0, 2, 3, 5]),
        ((0, 2 * LARGE), [(0, 9 * LARGE)], []),
        ((4 * LARGE, 6 * LARGE), [(0, 2 * LARGE), (8 * LARGE, 9 * LARGE)], [4, 5]),
    ],
)
def test_blocks_are_whole_and_new(memory, before, blocks):
    found = pages.large_blocks(Mapping(*memory, heap=False, small=0), before)
    assert [block // LARGE for block in found] == blocks


def test_nothing_is_asked_before_runs_have_taken_what_makes_it_pay(system):
    session = LargePages()
    system.holds((0, 4))
    session.after_run(4 / pages.GAIN - 1)
    assert not system.asked
    assert not session.settled
    session.after_run(1)
    assert set(system.asked) == {0, 1, 2, 3}
    assert session.settled


def test_what_was_there_before_the_session_is_left_alone(system):
    system.holds((0, 4))
    session = LargePages()
    system.holds((0, 5))
    session.after_run(100)
    assert set(system.asked) == {4}


def test_the_heap_is_asked_for_though_it_was_there_since_it_is_used_again(system):
    system.holds((0, 4), heap=True)
    session = LargePages()
    session.after_run(100)
    assert set(system.asked) == {0, 1, 2, 3}


def test_memory_that_comes_later_is_asked_for_when_runs_have_taken_twice_as_long(system):
    session = LargePages()
    system.holds((0, 2))
    session.after_run(100)
    system.holds((0, 2), (4, 6))
    session.after_run(99)
    assert set(system.asked) == {0, 1}
    session.after_run(1)
    assert sorted(system.asked) == [0, 0, 1, 1, 4, 4, 5, 5]  # two kinds of advice each, and never twice


def test_asking_that_takes_longer_than_thought_goes_on_once_that_would_have_paid_as_well(system, monkeypatch):
    monkeypatch.setattr(pages, "seconds_for_one", lambda: 0.1)  # where it takes a second
    session = LargePages()
    system.holds((0, 30))
    session.after_run(3 / pages.GAIN)
    assert len(set(system.asked)) == 7  # the first that ends after twice the three seconds it was thought to take
    session.after_run(26 / pages.GAIN)
    assert len(set(system.asked)) == 7
    assert not session.settled
    session.after_run(1 / pages.GAIN)
    assert len(set(system.asked)) == 30
    assert session.settled


def test_pages_of_another_size_are_not_asked_for(system):
    (system.folder / "size").write_text("536870912\n")
    assert LargePages().settled


def test_a_system_that_tells_nothing_of_memory_is_not_asked(system):
    session = LargePages()
    (system.folder / "smaps").unlink()
    session.after_run(1000)
    assert not system.asked


@pytest.mark.parametrize("policy", ["[always] madvise never", "always madvise [never]", None])
def test_where_all_or_no_one_gets_large_pages_nothing_is_asked(system, policy):
    (system.folder / "enabled").unlink() if policy is None else system.policy(policy)
    session = LargePages()
    system.holds((0, 4))
    session.after_run(1000)
    assert not system.asked
    assert session.settled


def test_a_system_that_moves_nothing_is_not_asked_twice(system, monkeypatch):
    monkeypatch.setattr(pages, "seconds_for_one", lambda: None)
    session = LargePages()
    system.holds((0, 4))
    session.after_run(1000)
    session.after_run(1e9)
    assert not system.asked
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
        for block in pages.large_blocks(Mapping(start, start + len(memory), heap=False, small=0), []):
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
