"""Ultralytics: metadata whose values are Python literals, `str(...)` of what the exporter knew.

Source: github.com/ultralytics/ultralytics, `engine/exporter.py` and `data/augment.py` (LetterBox, classify_transforms).
"""

import ast
from collections.abc import Mapping
from typing import Any

from onnxsal.model.card.reading import Reading

_TASKS = {
    "classify": "classification",
    "detect": "detection",
    "segment": "detection",
    "obb": "detection",
    "pose": "pose",
}
# Names of ten thousand classes fill half of this.
_LONGEST_LITERAL = 1_000_000


def read_ultralytics(metadata: Mapping[str, str]) -> Reading | None:
    """Return what Ultralytics metadata says, or None if the model is not theirs. YOLOv5 writes `stride` and `names`."""
    if metadata.get("author") != "Ultralytics" and not {"stride", "names"} <= set(metadata):
        return None
    notes: list[str] = []
    literals = {key: _literal(key, metadata, notes) for key in ("names", "imgsz", "channels")}
    said: dict[str, Any] = {
        "task": _TASKS.get(metadata.get("task", "")),
        "labels": _labels(literals["names"], notes),
        "size": _size(literals["imgsz"]),
        "channels": {1: "GRAY", 3: "RGB", None: "RGB"}.get(literals["channels"]),
        "scale": 1 / 255,
        "mean": (0.0,),
        "std": (1.0,),
        "interpolation": "bilinear",
        "layout": "NCHW",
    }
    if said["task"] == "classification":
        said |= {"resize": "shortest_edge", "crop": "center"}
    elif "rtdetr" in metadata.get("description", "").lower():
        said |= {"resize": "stretch"}
    else:
        said |= {"resize": "letterbox", "pad_value": 114.0}
    return Reading("metadata Ultralytics", said, tuple(notes))


def _literal(key: str, metadata: Mapping[str, str], notes: list[str]) -> Any:
    """Return the value of a Python literal, never evaluated; None, with a note, where it is none."""
    text = metadata.get(key)
    if text is None:
        return None
    try:
        if len(text) > _LONGEST_LITERAL:
            raise ValueError("too long")
        value = ast.literal_eval(text)
        hash(repr(value))
        return value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        notes.append(f"{key} is not a Python literal; ignored")
        return None


def _labels(names: Any, notes: list[str]) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or set(names) != set(range(len(names))) or not names:
        notes.append("names does not number the classes 0, 1, 2, ...; ignored")
        return None
    return tuple(str(names[k]) for k in range(len(names)))


def _size(imgsz: Any) -> tuple[int, int] | None:
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else imgsz
    if isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides):
        return sides[0], sides[1]
    return None
