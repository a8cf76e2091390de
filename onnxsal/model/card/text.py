"""Strings from strangers' files, made harmless: one for terminals, one for file names."""

import hashlib
import re
import unicodedata

# Names that Windows keeps for devices, whatever their extension.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


def plain(text: object, limit: int | None = None) -> str:
    """Return one line of printable text: control, bidirectional-override and line-break characters become spaces.

    Markup such as `[red]` or `<b>` is kept as written: print it as text, never as markup.

    Args:
        text: Anything; `str()` is taken of it.
        limit: Longest result in characters, cut with "..."; None keeps all.
    """
    line = str(text)
    if not line.isprintable():  # what is not can forge a second line, hide text or turn it round
        line = "".join(character if character.isprintable() else " " for character in line)
    line = " ".join(line.split())
    if limit is not None and len(line) > limit:
        return line[: max(limit - 3, 0)] + "..."
    return line


def slug(text: object, limit: int = 60) -> str:
    """Return a part of a file name: ASCII letters, digits, `-` and `_`, never empty, at most `limit` characters.

    Text without a single such character (other scripts, "..") becomes `x-` and a short hash, so that it still differs.
    """
    ascii_only = unicodedata.normalize("NFKD", str(text)).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9_]+", "-", ascii_only).strip("-")[:limit].strip("-")
    if not name:
        return "x-" + hashlib.sha256(str(text).encode("utf-8", "replace")).hexdigest()[:8]
    return f"_{name}"[:limit] if name.lower() in _DEVICES else name
