"""Where results are written: names no stranger's label can bend, checked before work begins."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxsal.errors import OutputError
from onnxsal.explanation.explanation import check_free
from onnxsal.model.card import slug


@dataclass(frozen=True)
class Outputs:
    """Names of the files in one folder.

    Attributes:
        folder: Where they go; made when the first is written.
        formats: Their endings.
        overwrite: Whether files may be replaced.
    """

    folder: Path
    formats: tuple[str, ...] = ("png",)
    overwrite: bool = False

    def results(self, stem: str, method: str, target: str) -> list[Path]:
        """Return the files of one explanation, one per format."""
        return [self._path(stem, method, target, kind) for kind in self.formats]

    def panel(self, stem: str, target: str) -> Path:
        """Return the file with all methods side by side."""
        return self._path(stem, "panel", target, "png")

    def _path(self, stem: str, what: str, target: str, kind: str) -> Path:
        end = "" if target == "top" else f"_{slug(target)}"
        return self.folder / f"{stem}_{slug(what)}{end}.{kind}"

    def check(self, paths: Iterable[Path]) -> None:
        """Refuse what could not be written, before any work.

        Raises:
            OutputError: A file is there already, two results have one name, or the folder cannot be written.
        """
        check_folder(self.folder)
        seen: set[str] = set()
        for path in paths:
            if path.name.casefold() in seen:
                raise OutputError(f"two results would be written to {path}: explain the photos one by one")
            seen.add(path.name.casefold())
            check_file(path, overwrite=self.overwrite)

    def make_folder(self) -> None:
        """Make the folder.

        Raises:
            OutputError: It cannot be made.
        """
        make_folder(self.folder)


def check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there already, or whose name no file can have."""
    try:
        check_free(path, overwrite=overwrite)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, or made.

    Raises:
        OutputError: It, or the nearest that exists above it, is no folder, or may not be written.
    """
    try:
        there = next(f for f in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(f))
        if not there.is_dir():
            raise _refusal(folder, f"{there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise _refusal(folder, f"no permission to write to {there}")
    except OSError as error:
        raise _refusal(folder, error.strerror) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error.strerror) from error


def _refusal(folder: Path, reason: str | None) -> OutputError:
    return OutputError(f"cannot write to the folder {folder}: {reason}; choose another (-o)")


def unique_stems(photos: Sequence[Path]) -> list[str]:
    """Return a name for each photo's files; photos of one name in different folders get numbers."""
    taken: set[str] = set()
    stems = []
    for photo in photos:
        stem = next(s for s in _candidates(photo) if s.casefold() not in taken)
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _candidates(photo: Path) -> Iterator[str]:
    # A name with line breaks or terminal control sequences is a file on this disk already, but need not be copied.
    stem = photo.stem if photo.stem.isprintable() else slug(photo.stem)
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1
