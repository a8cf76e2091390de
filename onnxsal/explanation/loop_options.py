"""How the user wants loops of many runs to be run."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from onnxsal.errors import MethodError
from onnxsal.sampling.scheduler import Status
from onnxsal.sampling.tallies import check_folder_of


@dataclass(frozen=True)
class LoopOptions:
    """How the user wants loops to be run.

    Attributes:
        workers: Runs at a time; None takes one of one thread per core, on another device than the processor one.
        tolerance: End once the relative standard error is below; None never does.
        checkpoint: File to write a loop down in, and to go on from.
        part: Which of several images this is; their files are named after it.
        progress: Told after every run.
        partial: Whether maps are wanted before the last.
    """

    workers: int | None = None
    tolerance: float | None = None
    checkpoint: Path | None = None
    part: str = ""
    progress: Callable[[Status], None] | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        """Check what is asked for before there is any work.

        Raises:
            MethodError: A number is none, or too small.
            OutputError: The folder of the checkpoint is missing, or may not be written.
        """
        check_count("workers", self.workers)
        tolerance = self.tolerance
        if tolerance is not None and not (isinstance(tolerance, Real) and 0 < tolerance < float("inf")):
            raise MethodError(f"tolerance={tolerance!r} is no number above 0, such as 0.02")
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", Path(self.checkpoint))
            check_folder_of(Path(self.checkpoint))

    @property
    def looks(self) -> bool:
        """Whether someone asks for the map, or how sure it is, before the end."""
        return self.partial or self.tolerance is not None or self.progress is not None


def read_options(loop: Any) -> LoopOptions:
    """Return the options as given, or those of one who gave none.

    Raises:
        MethodError: It is something else.
    """
    if loop is None:
        return LoopOptions()
    if not isinstance(loop, LoopOptions):
        raise MethodError(f"loop is a {type(loop).__name__}: give onnxsal.LoopOptions(workers=2, ...)")
    return loop


def part_of_file(path: Path, part: str) -> Path:
    """Return the file of one of several images, named after it; of an only one, the file itself."""
    return path.with_name(f"{path.stem}.{part}{path.suffix}") if part else path


def check_count(name: str, value: int | None) -> None:
    """Refuse what is no whole number of one or more; None passes.

    Raises:
        MethodError: It is none.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if value is not None and not (whole and value >= 1):
        raise MethodError(f"{name}={value!r} is no whole number of 1 or more")
