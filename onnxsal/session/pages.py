"""Ask Linux for large pages for what a session works on.

Memory comes in pages of 4 kB, and a processor has the places of one or two thousand of them at hand; a gradient's
values and weights fill tens of thousands, and looking them up again and again takes a fifth of the time
(`benchmarks/gradient.py --small-pages` goes without). Linux gives pages of 2 MB to who asks, where its policy is
`madvise`, as most distributions have it; neither ONNX Runtime nor the C library asks. Memory that is in use has to be
moved for it, so that is done once a session's runs have taken so long that it would have paid by now.

Source: madvise(2), MADV_COLLAPSE, since Linux 6.1; numpy asks for its own large arrays alike.
"""

import ctypes
import math
import mmap
import re
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

MAPS = Path("/proc/self/maps")
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE = 2 << 20  # bytes
SMALL = mmap.PAGESIZE
HUGEPAGE, COLLAPSE = 14, 25
"""Kinds of advice: what is written here from now on, and what is here now."""

GAIN = 0.2
"""What large pages save of the time of a run: ResNet-50, MobileNetV2 and their gradients .15 to .28."""
FIRST_LOOK = 0.25  # seconds of runs; less is over before it pays
TOO_DEAR = 2
"""Times what asking was thought to take, when it is left for later."""

Span = tuple[int, int]

_PRIVATE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *(\[heap\]|\[anon:.*\])?$", re.MULTILINE)
"""Memory of the process alone, behind which there is no file, and which is no stack."""


class LargePages:
    """Large pages for what the process maps from now on, for the sake of one session.

    Attributes:
        settled: Whether they have been asked for, or there is no one to ask.
    """

    def __init__(self) -> None:
        self._before = private_memory() if are_given() else None
        self._lock = threading.Lock()
        self._asked: set[int] = set()
        self._ran = self._spent = 0.0
        self._due = FIRST_LOOK
        self.settled = self._before is None

    def after_run(self, seconds: float) -> None:
        """Take note that a run took so long; ask, if that pays by now. One thread at a time does, others go on."""
        if self._before is None or not self._lock.acquire(blocking=False):
            return
        try:
            self._ran += seconds
            if self._ran >= self._due:
                self._due = self._look(self._before)
        finally:
            self._lock.release()

    def _look(self, before: Sequence[Span]) -> float:
        """Ask for what is worth it; return after how many seconds of runs to look again."""
        probed = seconds_for_one()
        if probed is None:
            self.settled = True
            return math.inf
        blocks = [block for block in large_blocks(private_memory(), before) if block not in self._asked]
        price = len(blocks) * (self._spent / len(self._asked) if self._asked else probed)
        if GAIN * self._ran < self._spent + price:
            return (self._spent + price) / GAIN
        self._ask(blocks, TOO_DEAR * price)
        self.settled = True
        return 2 * self._ran

    def _ask(self, blocks: Sequence[int], allowance: float) -> None:
        """Ask block by block, until done or the seconds allowed are over."""
        begin = time.perf_counter()
        for block in blocks:
            _advise(block, HUGEPAGE)
            _advise(block, COLLAPSE)  # in vain where nothing was ever written, or the system has no large page left
            self._asked.add(block)
            if time.perf_counter() - begin > allowance:
                break
        self._spent += time.perf_counter() - begin


def are_given() -> bool:
    """Return whether the system gives large pages to who asks, and to no one else."""
    try:
        return "[madvise]" in POLICY.read_text(encoding="ascii")
    except OSError:
        return False


def private_memory() -> list[Span]:
    """Return where the process has memory of its own, start and end in bytes."""
    return [(int(m[1], 16), int(m[2], 16)) for m in _PRIVATE.finditer(MAPS.read_text(encoding="utf-8"))]


def large_blocks(memory: Sequence[Span], before: Sequence[Span]) -> Iterator[int]:
    """Yield the start of each 2 MB that fit between a large page's bounds in `memory`, outside what was `before`."""
    for start, end in memory:
        for low, high in _outside(start, end, before):
            yield from range(-(-low // LARGE) * LARGE, high - LARGE + 1, LARGE)


def _outside(start: int, end: int, holes: Sequence[Span]) -> Iterator[Span]:
    for low, high in holes:  # in order, as the system lists them
        if low < end and high > start:
            yield start, low
            start = high
    yield start, end


@cache
def seconds_for_one() -> float | None:
    """Return how long it takes to have 2 MB moved into a large page; None where the system does not do it."""
    with mmap.mmap(-1, 2 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        view = ctypes.c_char.from_buffer(memory)
        block = -(-ctypes.addressof(view) // LARGE) * LARGE
        del view  # or the memory could not be given back
        for place in range(0, len(memory), SMALL):
            memory[place] = 1
        begin = time.perf_counter()
        moved = _advise(block, COLLAPSE)
        return time.perf_counter() - begin if moved else None


def _advise(block: int, advice: int) -> bool:
    """Give the system advice about 2 MB; return whether it was taken. What they hold stays as it is."""
    failed: int = _system_calls().madvise(ctypes.c_void_p(block), ctypes.c_size_t(LARGE), ctypes.c_int(advice))
    return not failed


@cache
def _system_calls() -> ctypes.CDLL:
    return ctypes.CDLL(None)
