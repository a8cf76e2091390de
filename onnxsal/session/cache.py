"""Compiled explainers and facts about models, kept in the user's cache folder.

Entries are files named by content hash; they are written under another name and moved into place, so
two processes may write the same one. The folder is kept below a size by removing what was not used
for longest. Nothing breaks if it is deleted at any moment, or cannot be written.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxsal.errors import OnnxsalError

DEFAULT_LIMIT = 2 << 30  # bytes


class Cache:
    """A folder of files named by hash.

    Attributes:
        folder: Where they lie; None keeps nothing.
        limit: Bytes that all of them may take.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        """Use `folder`, by default the user's cache folder.

        `ONNXSAL_CACHE` names another folder, or is empty to keep nothing; `ONNXSAL_CACHE_LIMIT` is the
        size in bytes.
        """
        named = os.environ.get("ONNXSAL_CACHE")
        self.folder = folder or (default_folder() if named is None else Path(named) if named else None)
        self.limit = limit if limit is not None else _limit()

    def find(self, name: str) -> Path | None:
        """Return the entry of that name, marked as used now, or None."""
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, name: str, write: Callable[[Path], None]) -> Path | None:
        """Have `write` write the entry; return where it is, or None where it cannot be kept."""
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _temporary(self.folder, path.suffix) as temporary:
                write(temporary)
                if temporary.stat().st_size > self.limit // 2:
                    return None
                os.replace(temporary, path)
            self._shrink(keep=path)
        except OSError:
            return None
        return path

    def read_json(self, name: str) -> Any:
        """Return the JSON entry of that name, or None where it is absent or broken."""
        path = self.find(name)
        if path is None:
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def add_json(self, name: str, value: Any) -> None:
        """Keep a JSON entry."""
        self.add(name, lambda path: _write_text(path, json.dumps(value)))

    def remove(self, name: str) -> None:
        """Drop an entry that turned out to be broken."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def _shrink(self, keep: Path) -> None:
        """Remove what was not used for longest until the rest fits."""
        assert self.folder is not None
        entries = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                stat = path.stat()
                entries.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if total <= self.limit:
                return
            if path != keep:
                with contextlib.suppress(OSError):  # another process may have removed it
                    path.unlink()
                    total -= size


def _limit() -> int:
    text = os.environ.get("ONNXSAL_CACHE_LIMIT") or str(DEFAULT_LIMIT)
    if not text.isdecimal():
        raise OnnxsalError(f"ONNXSAL_CACHE_LIMIT is {text!r}, which is not a number of bytes")
    return int(text)


def default_folder() -> Path:
    """Return the user's cache folder for onnxsal, by each system's custom."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "onnxsal" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "onnxsal"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxsal"


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _temporary(folder: Path, suffix: str) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=suffix, dir=folder)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
