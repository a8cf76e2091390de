"""What the machine has for a loop: processors, and memory that is free now.

From the operating system itself; what a container is allowed counts where it is less than what the machine has.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from onnxsal.sampling.sizing import Room

PROC, SYS = Path("/proc"), Path("/sys")


def find_room(providers: Sequence[str]) -> Room:
    """Return what there is to run on, for sessions on these providers of ONNX Runtime, the first in use."""
    if providers[0] == "CPUExecutionProvider":
        return Room(processors(), free_memory())
    return Room(processors(), free_gpu_memory() if "CUDAExecutionProvider" in providers else None, gpu=True)


def processors() -> int:
    """Return how many cores this process may use; two threads of one core count once, as ONNX Runtime counts them."""
    count = os.cpu_count() or 1
    if sys.platform == "linux":
        usable = os.sched_getaffinity(0)
        count = len({_read(SYS / f"devices/system/cpu/cpu{i}/topology/thread_siblings_list") or str(i) for i in usable})
    allowed = _allowed_processors()
    return max(count if allowed is None else min(count, allowed), 1)


def free_memory() -> int | None:
    """Return how many bytes of memory can be had without pushing others out; None where that cannot be told."""
    if sys.platform == "win32":
        return _free_on_windows()
    machine = _free_on_linux() if sys.platform == "linux" else _half_of_all()
    container = _free_in_container()
    known = [free for free in (machine, container) if free is not None]
    return min(known, default=None)


def free_gpu_memory(device: int = 0) -> int | None:
    """Return how many bytes are free on a CUDA device, as its driver says; None where there is none.

    What an arena of ONNX Runtime holds already counts as taken.
    """
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), device):
        return None
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle):
        return None
    try:
        if cuda.cuCtxPushCurrent_v2(context) or cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            return None
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        return free.value
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(handle)


# ----- Systems -----


def _free_on_linux() -> int | None:
    for line in _read(PROC / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _half_of_all() -> int | None:
    """Return half of the machine's memory, where the system does not say how much of it is free."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("all", "free", "a", "b", "c", "d", "e")),
    )


def _free_on_windows() -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems have no such attribute
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


# ----- Containers: control groups, version 2 and 1 -----


def _free_in_container() -> int | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = (_read(SYS / "fs/cgroup" / name) for name in (limit, used))
        if most.isdecimal() and now.isdecimal():
            return max(int(most) - int(now), 0)
    return None


def _allowed_processors() -> int | None:
    """Return how many processors' time the process is granted, rounded up."""
    group = SYS / "fs/cgroup"
    quota, _, period = _read(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(group / f"cpu/cpu.cfs_{what}_us") for what in ("quota", "period"))
    return -(-int(quota) // int(period)) if quota.isdecimal() and period.isdecimal() else None


def _read(path: Path) -> str:
    """Return what a file says, nothing if it is not there."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
