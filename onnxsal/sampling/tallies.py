"""What loops gather, a score for each perturbation, and the file that it is written down in."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import OutputError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Checkpoint:
    """A file that a loop is written down in, and goes on from.

    Attributes:
        path: The file.
        job: What identifies the loop: model, image, method, settings, target.
    """

    path: Path
    job: str

    def read(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return what was written down, or None if there is no file yet.

        Raises:
            OutputError: The file belongs to another loop, or is no checkpoint.
        """
        if not self.path.exists():
            return None
        try:
            # np.load would open anything, a lone array too.
            with self.path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in saved.files}
            job = str(arrays.pop("job"))
        # A damaged archive makes its readers stumble over anything: BadZipFile, zlib.error, struct.error, ...
        except Exception as error:
            raise OutputError(
                f"{self.path} is no checkpoint of onnxsal, or damaged: choose another file, or remove it"
            ) from error
        if job != self.job:
            raise OutputError(
                f"{self.path} belongs to another explanation (other model, image, target or settings): choose another "
                f"file, or remove it"
            )
        return arrays

    def write(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write it down, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                everything: dict[str, Any] = {"job": np.array(self.job), **arrays}
                np.savez(file, **everything)
            os.replace(unfinished, self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def check_folder_of(path: Path) -> None:
    """Refuse a file that could not be written, before there is anything to write.

    Raises:
        OutputError: Its folder is missing, or may not be written, or the file is a folder itself.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give a file in it")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write to {folder}")


class Scores:
    """What each perturbation scored, for each target: four bytes of it, from which any map can be made.

    Attributes:
        done: Perturbations put in.
    """

    def __init__(
        self,
        total: int,
        targets: int,
        error: Callable[[Floats], float] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Make room, or go on from a checkpoint.

        Args:
            total: Perturbations.
            targets: Targets.
            error: The relative standard error that follows from the scores so far, (n, T).
            checkpoint: Where to write it down.

        Raises:
            OutputError: The checkpoint cannot be read.
        """
        self._scores = np.full((total, targets), np.nan, np.float32)
        self._error = error
        self._checkpoint = checkpoint
        self.done = 0
        saved = checkpoint.read() if checkpoint else None
        if saved is not None:
            # More samples than before may be asked for, or fewer.
            self.done = min(len(saved["scores"]), total)
            self._scores[: self.done] = saved["scores"][: self.done]

    @property
    def scores(self) -> Floats:
        """(done, T)."""
        return self._scores[: self.done]

    def put(self, start: int, answer: object) -> None:
        """Take in the scores (n, T) of the perturbations from `start` on."""
        scores = np.asarray(answer)
        assert start == self.done, f"perturbation {start} comes after {self.done}"
        self._scores[start : start + len(scores)] = scores
        self.done = start + len(scores)

    def relative_error(self) -> float | None:
        """Return the largest relative standard error among the targets."""
        return None if self._error is None or self.done < 2 else self._error(self.scores)

    def save(self) -> None:
        """Write the scores down."""
        if self._checkpoint is not None:
            self._checkpoint.write({"scores": self.scores})
