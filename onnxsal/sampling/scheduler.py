"""Run a loop of perturbations: in batches, on several workers, with a clock, an early end and a way to resume.

What a perturbation contributes depends on its index alone, and contributions are put together in order of index: the
result is the same for any batch size, order or number of workers, as far as the model's own kernels give a sample the
same numbers in any batch.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import numpy as np

from onnxsal.errors import OutOfMemory

# The first look at a running result is after so many samples, each later one after twice as many.
FIRST_LOOK = 64


@dataclass(frozen=True)
class Status:
    """How far a loop is.

    Attributes:
        done: Samples behind.
        total: Samples asked for.
        seconds_left: As the pace so far has it; None before there is one.
        error: The largest standard error, as a part of the map's range, at the last look; None before.
    """

    done: int
    total: int
    seconds_left: float | None = None
    error: float | None = None


class Tally(Protocol):
    """What has been gathered so far.

    Attributes:
        done: Samples put in, from the first on without a gap.
    """

    done: int

    def put(self, start: int, answer: object) -> None:
        """Take in the answer of the samples from `start` on; they come in order."""
        ...

    def relative_error(self) -> float | None:
        """Return the largest standard error of what is asked for, as a part of its range; None if unknown."""
        ...

    def save(self) -> None:
        """Write down what is needed to go on later, if that was asked for."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How a loop is run.

    Attributes:
        total: Samples at most.
        batch_size: Samples in a run.
        workers: Runs at a time.
        tolerance: End once the relative standard error is below; None never does.
        looks: Look at the result on the way; a look costs as much as making the map.
    """

    total: int
    batch_size: int
    workers: int = 1
    tolerance: float | None = None
    looks: bool = True

    def ranges(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield first and last (exclusive) index of the runs from `start` on."""
        while start < self.total:
            stop = min(start + self.batch_size, self.total)
            yield start, stop
            start = stop


SAVE_EVERY = 30.0  # seconds


def sweep(
    answer: Callable[[int, int], object],
    tally: Tally,
    schedule: Schedule,
    progress: Callable[[Status], None] | None = None,
) -> Iterator[Status]:
    """Run a loop to its end; yields at each look, when `tally` holds a result worth showing, and at the end.

    Args:
        answer: What to gather of the samples from one index up to another, as an array (n, ...), or a list of arrays.
        tally: Where it goes, and from where the loop goes on.
        schedule: How it is run.
        progress: Told after every run.
    """
    clock = _Clock(tally.done, schedule.total)
    look = next_look(tally.done)
    error: float | None = None
    try:
        for start, result in _in_order(Sparing(answer), schedule, tally.done):
            with undisturbed():
                tally.put(start, result)
            if schedule.looks and look <= tally.done < schedule.total:
                look = next_look(tally.done)
                error = tally.relative_error()
                yield clock.status(tally.done, error)
                if schedule.tolerance is not None and error is not None and error <= schedule.tolerance:
                    break
            if progress is not None:
                progress(clock.status(tally.done, error))
            if clock.save_is_due():
                tally.save()
    finally:
        tally.save()
    yield clock.status(tally.done, tally.relative_error() if schedule.looks else None)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put an interruption off (Ctrl-C) until what is begun is done: half of a sum is worth nothing to go on from."""
    before = signal.getsignal(signal.SIGINT)
    # Others than the main thread are not interrupted.
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received:
            before(*received[0])


def next_look(done: int) -> int:
    """Return after how many samples the next look is: 64, 128, 256 ..."""
    look = FIRST_LOOK
    while look <= done:
        look *= 2
    return look


def _in_order(answer: Callable[[int, int], object], schedule: Schedule, start: int) -> Iterator[tuple[int, object]]:
    """Yield the answers in order of index, however many workers find them."""
    if schedule.workers == 1:
        for first, last in schedule.ranges(start):
            yield first, answer(first, last)
        return
    waiting: dict[Future[object], int] = {}
    ready: dict[int, object] = {}
    ranges = schedule.ranges(start)
    due = start
    with ThreadPoolExecutor(schedule.workers) as pool:
        try:
            while True:
                # Few runs ahead of the oldest one out: finished ones wait in memory.
                while len(waiting) + len(ready) < 2 * schedule.workers and (span := next(ranges, None)) is not None:
                    waiting[pool.submit(answer, *span)] = span[0]
                if not waiting and not ready:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done if due not in ready else ():
                    ready[waiting.pop(future)] = future.result()
                while due in ready:
                    yield due, ready.pop(due)
                    due = min(due + schedule.batch_size, schedule.total)
        finally:
            pool.shutdown(cancel_futures=True)


class Sparing:
    """Answers a run that finds no memory in two halves, and from then on takes no more at a time than worked."""

    def __init__(self, answer: Callable[[int, int], object]) -> None:
        self._answer = answer
        self._most: int | None = None

    def __call__(self, start: int, stop: int) -> object:
        """Return the answer of the samples from `start` up to `stop`.

        Raises:
            OutOfMemory: There is not enough for a single one.
        """
        most = self._most
        if most is not None and stop - start > most:
            return self._parts(start, stop, most)
        try:
            return self._answer(start, stop)
        except (OutOfMemory, MemoryError):
            if stop - start == 1:
                raise
            self._most = most = min(self._most or stop, (stop - start) // 2)
        return self._parts(start, stop, most)

    def _parts(self, start: int, stop: int, most: int) -> object:
        return _joined([self(i, min(i + most, stop)) for i in range(start, stop, most)])


def _joined(parts: Sequence[object]) -> object:
    """Return the answers of runs that follow each other as one: an array, or a list with one for each target."""
    if isinstance(parts[0], list):
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return np.concatenate([np.asarray(part) for part in parts])


class _Clock:
    """How fast it goes."""

    def __init__(self, done: int, total: int) -> None:
        self._first, self._total = done, total
        self._started = self._saved = time.monotonic()

    def status(self, done: int, error: float | None) -> Status:
        fresh = done - self._first
        pace = (time.monotonic() - self._started) / fresh if fresh else None
        return Status(done, self._total, None if pace is None else pace * (self._total - done), error)

    def save_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._saved < SAVE_EVERY:
            return False
        self._saved = now
        return True
