"""The cache keeps what fits, survives damage, and two writers."""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from onnxsal.errors import OnnxsalError
from onnxsal.session import Cache


def write_text(text):
    return lambda path: path.write_text(text)


def add_many(folder):
    """Write one entry again and again; return whether every read was whole."""
    cache = Cache(folder)
    for _ in range(50):
        cache.add("same.txt", write_text("x" * 10_000))
        path = cache.find("same.txt")
        if path is None or len(path.read_text()) != 10_000:
            return False
    return True


def test_what_was_added_is_found(tmp_path):
    cache = Cache(tmp_path / "new" / "folder")
    cache.add("a.txt", write_text("hello"))
    assert cache.find("a.txt").read_text() == "hello"
    assert cache.find("b.txt") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = Cache(tmp_path, limit=2500)
    for i, name in enumerate(["old.txt", "used.txt"]):
        cache.add(name, write_text("x" * 1000))
        os.utime(tmp_path / name, (i, i))
    os.utime(tmp_path / "old.txt", (5, 5))
    os.utime(tmp_path / "used.txt", (1, 1))
    cache.find("used.txt")  # marks it as used now
    cache.add("new.txt", write_text("x" * 1000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.txt", "used.txt"]


def test_an_entry_that_would_crowd_out_the_rest_is_not_kept(tmp_path):
    cache = Cache(tmp_path, limit=1000)
    assert cache.add("big.txt", write_text("x" * 900)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        Cache(tmp_path).add("a.txt", fail)
    assert list(tmp_path.iterdir()) == []


def test_broken_json_is_as_good_as_none(tmp_path):
    cache = Cache(tmp_path)
    cache.add("a.json", write_text("{"))
    assert cache.read_json("a.json") is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "below")
    assert cache.add("a.txt", write_text("x")) is None
    assert cache.find("a.txt") is None


def test_an_empty_name_keeps_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("ONNXSAL_CACHE", "")
    cache = Cache()
    assert cache.folder is None
    assert cache.add("a.txt", write_text("x")) is None


@pytest.mark.parametrize("limit", ["many", "-1"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch, limit):
    monkeypatch.setenv("ONNXSAL_CACHE_LIMIT", limit)
    with pytest.raises(OnnxsalError, match=f"ONNXSAL_CACHE_LIMIT is '{limit}', which is not a number of bytes"):
        Cache()


@pytest.mark.slow
def test_two_processes_can_write_the_same_entry(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        assert all(pool.map(add_many, [tmp_path, tmp_path]))
    assert [p.name for p in tmp_path.iterdir()] == ["same.txt"]
