"""What the machine has, as its files say."""

import sys

import pytest

from onnxsal.sampling.sizing import Room
from onnxsal.session import find_room, machine

MB = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write files below /proc and /sys."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "SYS", tmp_path / "sys")

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write(proc__meminfo=f"MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable: {600 * 1024} kB\n")
    return write


def test_this_machine_has_processors_and_memory():
    room = find_room(["CPUExecutionProvider"])
    assert room.processors >= 1
    assert room.memory is None or room.memory > 0
    assert not room.gpu


@linux
def test_what_can_be_freed_counts_as_free(files):
    assert machine.free_memory() == 600 * MB


@linux
@pytest.mark.parametrize(
    ("limit", "used"),
    [
        ("sys__fs__cgroup__memory_DOT_max", "sys__fs__cgroup__memory_DOT_current"),
        ("sys__fs__cgroup__memory__memory_DOT_limit_in_bytes", "sys__fs__cgroup__memory__memory_DOT_usage_in_bytes"),
    ],
)
def test_a_container_may_have_less_than_the_machine(files, limit, used):
    files(**{limit: str(500 * MB), used: f"{200 * MB}\n"})
    assert machine.free_memory() == 300 * MB
    files(**{limit: "max"})
    assert machine.free_memory() == 600 * MB


@linux
def test_two_threads_of_one_core_count_once(files, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        files(**{f"sys__devices__system__cpu__cpu{cpu}__topology__thread_siblings_list": siblings})
    assert machine.processors() == 2


@linux
@pytest.mark.parametrize(("quota", "count"), [("150000 100000", 2), ("max 100000", 8), ("1000 100000", 1)])
def test_a_container_may_be_granted_fewer_processors(files, monkeypatch, quota, count):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    files(sys__fs__cgroup__cpu_DOT_max=quota)
    assert machine.processors() == count


def test_a_device_of_its_own_takes_large_runs(monkeypatch):
    monkeypatch.setattr(machine, "free_gpu_memory", lambda: 5 * MB)
    assert find_room(["CUDAExecutionProvider", "CPUExecutionProvider"]) == Room(machine.processors(), 5 * MB, gpu=True)
    assert find_room(["DmlExecutionProvider", "CPUExecutionProvider"]).memory is None


def test_without_cudas_driver_its_memory_is_not_known(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", absent)
    assert machine.free_gpu_memory() is None
