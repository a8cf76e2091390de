"""Ask Linux for large pages for what a session works on.

Memory comes in pages of 4 kB, and a processor has the places of one or two thousand of them at hand; a gradient's
values and weights fill tens of thousands, and looking them up again and again takes up to a quarter of the time. How
much of it large pages save varies with the state of the machine, down to nothing (`--small-pages` of
`benchmarks/gradient.py` goes without). Linux gives pages of 2 MB to who asks, where its policy is `madvise`, as most
distributions have it; neither ONNX Runtime nor the C library asks. Memory that is in use has to be moved for it, so
that is done once a session's runs have taken so long that it would have paid by now.

Source: madvise(2), MADV_COLLAPSE, since Linux 6.1; numpy asks for its own large arrays alike.
"""

import ctypes
import math
import mmap
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SMAPS = Path("/proc/self/smaps")
POLICY, SIZE = (Path("/sys/kernel/mm/transparent_hugepage") / name for name in ("enabled", "hpage_pmd_size"))
LARGE = 2 << 20  # bytes
SMALL = mmap.PAGESIZE
HUGEPAGE, COLLAPSE = 14, 25
"""Kinds of advice: what is written here from now on, and what is here now."""

GAIN = 0.2
"""What large pages save of the time of a run: of ResNet-50, MobileNetV2 and their gradients nothing to .28."""
FIRST_LOOK = 0.25  # seconds of runs; less is over before it pays
TOO_DEAR = 2
"""Times what asking was thought to take, when it is left for later."""

Span = tuple[int, int]

_PRIVATE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *(\[heap\]|\[anon:.*\])?$", re.MULTILINE)
"""Memory of the process alone, behind which there is no file, and which is no stack."""


@dataclass(frozen=True)
class Mapping:
    """A piece of the process's own memory.

    Attributes:
        start: Address.
        end: Address behind it.
        heap: Whether it is the C library's, which goes back to it and is used again.
        small: Bytes that are there in small pages; what was never written is not there.
    """

    start: int
    end: int
    heap: bool
    small: int


class LargePages:
    """Large pages for what the process maps from now on, and for its heap, for the sake of one session.

    Attributes:
        settled: Whether they have been asked for, or there is no one to ask.
    """

    def __init__(self) -> None:
        self._before = [(m.start, m.end) for m in own_memory()] if are_given() else None
        self._lock = threading.Lock()
        self._ran = self._spent = 0.0
        self._moved = 0
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
        found = [(list(large_blocks(m, before)), m.small // LARGE) for m in own_memory() if m.small >= LARGE]
        count = sum(min(len(blocks), small) for blocks, small in found)
        price = count * (self._spent / self._moved if self._moved else probed)
        if self._wins_back(price):
            self.settled = self._ask([block for blocks, _ in found for block in blocks], TOO_DEAR * price)
            return 2 * self._ran if self.settled else self._ran
        return (self._spent + price) / GAIN

    def _wins_back(self, price: float) -> bool:
        """Tell whether large pages would have saved by now what they cost, in seconds."""
        return GAIN * self._ran >= self._spent + price

    def _ask(self, blocks: Sequence[int], allowance: float) -> bool:
        """Ask block by block, until the seconds allowed are over; return whether that was enough for all."""
        begin = time.perf_counter()
        for block in blocks:
            if time.perf_counter() - begin > allowance:
                break
            _advise(block, HUGEPAGE)
            # In vain where nothing was ever written, or the system has no large page left.
            self._moved += _advise(block, COLLAPSE)
        else:
            allowance = math.inf
        self._spent += time.perf_counter() - begin
        return math.isinf(allowance)


def are_given() -> bool:
    """Return whether the system gives pages of 2 MB to who asks, and to no one else."""
    return "[madvise]" in _read(POLICY) and _read(SIZE).strip() == str(LARGE)


def own_memory() -> Iterator[Mapping]:
    """Yield the memory that is the process's alone, as the system describes it."""
    text = _read(SMAPS)
    for found in _PRIVATE.finditer(text):
        present, large = (_amount(text, name, found.end()) for name in ("Rss", "AnonHugePages"))
        yield Mapping(int(found[1], 16), int(found[2], 16), found[3] == "[heap]", present - large)


def _amount(text: str, name: str, start: int) -> int:
    """Return the bytes that follow a name, the first time behind `start`; 0 if the system does not say."""
    found = re.compile(rf"^{name}: +(\d+) kB$", re.MULTILINE).search(text, start)
    return int(found[1]) << 10 if found else 0


def _read(path: Path) -> str:
    """Return what a file of the system says, nothing if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def large_blocks(memory: Mapping, before: Sequence[Span]) -> Iterator[int]:
    """Yield the start of each 2 MB between a large page's bounds; outside a heap, of what was not there `before`."""
    for low, high in [(memory.start, memory.end)] if memory.heap else _outside(memory.start, memory.end, before):
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
