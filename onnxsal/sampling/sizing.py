"""How many samples go in a run, and how many runs at a time: what is fastest, as far as memory allows.

On a processor, several runs of one thread each finish more samples than one run of several threads, whose operators
wait for one another (YOLOX-nano on two cores: 6.6 ms a sample, not 9.4). Each run then takes few samples, enough to
read the weights seldom and to make Python's share small. A GPU wants one run of many, and all of one size: whenever
the size changes its convolutions are planned anew (1000 samples of MobileNetV2 in runs of 64 and one of 40 took an H200
3.1 s, of which a forward pass of all is .2 s).
"""

from dataclasses import dataclass, replace

from onnxsal.graph.footprint import Footprint

MOST, MOST_ON_GPU = 8, 64
"""Samples in a run, at most: more is no faster."""
WEIGHTS_READ = 5
"""A run makes values of so many times the size of the weights, if it may: these are read once for all its samples."""
ENOUGH = 64e6  # bytes; a run that makes less of values is over so soon that starting it counts
LEAST_PART = 4
"""What makes all runs one size may be smaller than the fastest size by so many times."""
SLACK = 2.0
"""ONNX Runtime takes about so many times what the values of a sample add up to."""
SHARE = 0.5
"""Of the free memory, what a loop may take: other programs grow, too."""
UNKNOWN = 4
"""Samples in a run of which nothing is known."""


@dataclass(frozen=True)
class Room:
    """What there is to run on.

    Attributes:
        processors: Cores.
        memory: Free bytes, of the GPU where there is one; None if unknown.
        gpu: Whether runs go to a GPU, or another device beside the processor.
    """

    processors: int
    memory: int | None
    gpu: bool = False


@dataclass(frozen=True)
class Size:
    """How a loop is run.

    Attributes:
        batch_size: Samples in a run.
        workers: Runs at a time.
        threads: Threads in each run; None leaves it to ONNX Runtime.
        alike: Whether runs had better be of one size.
    """

    batch_size: int
    workers: int
    threads: int | None
    alike: bool = False

    def for_samples(self, samples: int) -> int:
        """Return how many go in a run if there are so many in all."""
        most = min(self.batch_size, -(-samples // self.workers))
        if not self.alike:
            return most
        return next((n for n in range(most, most // LEAST_PART, -1) if samples % n == 0), most)


def choose_size(need: Footprint, room: Room, batch_size: int | None = None, workers: int | None = None) -> Size:
    """Return how to run a loop.

    The same model on the same machine gets the same size unless memory is short.

    Args:
        need: What a sample takes.
        room: What there is.
        batch_size: Samples in a run, if the user says so; None takes what is fastest and fits.
        workers: Runs at a time, if the user says so.
    """
    size = Size(batch_size or _fastest(need, room), workers or (1 if room.gpu else room.processors), None, room.gpu)
    if room.memory is not None:
        fitting = int(room.memory * SHARE / max(SLACK * need.peak, 1))  # samples at a time, in all runs together
        if workers is None:
            size = replace(size, workers=max(min(size.workers, fitting // (batch_size or 1)), 1))
        if batch_size is None:
            size = replace(size, batch_size=max(min(size.batch_size, fitting // size.workers), 1))
    return size if room.gpu else replace(size, threads=max(room.processors // size.workers, 1))


def _fastest(need: Footprint, room: Room) -> int:
    if room.gpu:
        return MOST_ON_GPU
    if not need.made:
        return UNKNOWN
    return min(-(-int(max(WEIGHTS_READ * need.weights, ENOUGH)) // need.made), MOST)
