"""What a head knew before it suppressed: the boxes and full class scores behind a NonMaxSuppression or a final TopK.

Which values these are is not guessed from names. All that have the right shape and lie before the outputs are looked
at on a photo, and a pair is taken only if every final box is among its boxes, with its score among its scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsal.detectors.detections import Detections
from onnxsal.detectors.emit import from_centres, part, rows_first, to_pixels
from onnxsal.detectors.registry import Proposals
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value
from onnxsal.graph.types import dims, is_float

Array = npt.NDArray[Any]
Corners = Literal["xy", "yx", "centre"]
PIXELS = 1.0
"""How far a final box may lie from the proposal that it was."""
SCORES = 5e-3
MOST = 60
"""Values that are looked at, of either kind, the last before the outputs first."""


@dataclass(frozen=True)
class Peel:
    """Where the proposals are.

    Attributes:
        boxes: Name of the value that holds them, (1, P, 4) or (1, 4, P).
        scores: Name of the value with all class scores, (1, P, K) or (1, K, P).
        corners: What a box is: x1, y1, x2, y2; y1, x1, y2, x2; or centre and size.
        fractions: Whether boxes are in 0..1.
        logits: Whether scores are before a sigmoid.
        skip: Columns before the first class: a background, or the box where both are in one value.
        first: The number of the first class.
    """

    boxes: str
    scores: str
    corners: Corners
    fractions: bool
    logits: bool
    skip: int
    first: int

    def decode(self, op: Op, size: tuple[int, int]) -> Proposals:
        """Emit the proposals of a model whose input is `size`, (height, width)."""
        boxes, scores = (_long(op, find_value(op.graph, name)) for name in (self.boxes, self.scores))
        boxes = part(op, boxes, 0, 4)
        if self.corners == "yx":
            boxes = rows_first(op, boxes)
        if self.corners == "centre":
            boxes = from_centres(op, part(op, boxes, 0, 2), part(op, boxes, 2, 4))
        boxes = to_pixels(op, boxes, size) if self.fractions else boxes
        scores = part(op, scores, self.skip) if self.skip else scores
        return Proposals(boxes, op.Sigmoid(scores) if self.logits else scores, first_class=self.first)


def _long(op: Op, value: ir.Value) -> ir.Value:
    """Return (N, P, C), P the longer axis."""
    shape = dims(value) or ()
    return op.Transpose(value, perm=[0, 2, 1]) if _is_wide(shape) else value


def _is_wide(shape: Sequence[object]) -> bool:
    return isinstance(shape[1], int) and isinstance(shape[2], int) and shape[1] < shape[2]


# ----- Which values -----


def candidates(model: ir.Model) -> tuple[list[str], list[str]]:
    """Return the names of values that may hold the boxes, and of those that may hold the scores, the last first."""
    boxes: list[str] = []
    scores: list[str] = []
    for value in _behind_selection(model.graph):
        shape = dims(value) or ()
        if len(shape) != 3 or not is_float(value) or not all(isinstance(d, int) for d in shape[1:]):
            continue
        few, many = sorted(d for d in shape[1:] if isinstance(d, int))
        if many <= 4 or few >= many:
            continue
        if few >= 4 and len(boxes) < MOST:
            boxes.append(str(value.name))
        if len(scores) < MOST:
            scores.append(str(value.name))
    return boxes, scores


def _behind_selection(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the values that a NonMaxSuppression, a TopK or what follows it is computed from, the last first."""
    selecting = [node for node in graph if node.op_type in ("NonMaxSuppression", "TopK")]
    seen: set[ir.Value] = set()
    stack = [v for node in selecting for v in node.inputs if v is not None]
    stack += [v for output in graph.outputs for v in [output]]
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        node = value.producer()
        stack += [] if node is None else [v for v in node.inputs if v is not None]
    if selecting:
        yield from (v for node in reversed(list(graph)) for v in node.outputs if v in seen)


def match(
    found: Mapping[str, Array],
    boxes: Sequence[str],
    scores: Sequence[str],
    final: Detections,
    size: tuple[int, int],
) -> Peel | None:
    """Return the pair of values that every final box and its score are in, or None.

    Args:
        found: Array by name, on one photo.
        boxes: Names of those that may hold the boxes.
        scores: Names of those that may hold the scores.
        final: What the head says at last, boxes in pixels of the input.
        size: Height and width of the input.
    """
    classes = final.classes - final.first_class
    for name in boxes:
        for corners, fractions, rows in _readings(_tall(found[name])[:, :4], size):
            place = places_of(rows, final.boxes)
            if place is None:
                continue
            for other in scores:
                table = _tall(found[other])
                if len(table) != len(rows):
                    continue
                for logits, skip in _scored(table, place, classes, final.scores):
                    return Peel(name, other, corners, fractions, logits, skip, final.first_class)
    return None


def _tall(array: Array) -> Array:
    rows: Array = array[0].astype(np.float64)
    return rows.T if _is_wide(array.shape) else rows


def _readings(rows: Array, size: tuple[int, int]) -> Iterator[tuple[Corners, bool, Array]]:
    """Yield what the boxes are if they are written in this way or that: corners x1, y1, x2, y2 in pixels."""
    whole = np.array([size[1], size[0]] * 2)
    half = rows[:, 2:] / 2
    readings: dict[Corners, Array] = {
        "xy": rows,
        "yx": rows[:, [1, 0, 3, 2]],
        "centre": np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1),
    }
    for corners, read in readings.items():
        yield corners, False, read
        yield corners, True, read * whole


def places_of(rows: Array, wanted: Array) -> Array | None:
    """Return which row each final box is, or None if one is none of them."""
    # A box may lie partly outside, where exporters clip it.
    away = np.abs(rows[None] - wanted[:, None]).max(axis=2)
    return away.argmin(axis=1) if (away.min(axis=1) <= PIXELS).all() else None


def _scored(table: Array, place: Array, classes: Array, confidences: Array) -> Iterator[tuple[bool, int]]:
    """Yield whether scores are logits, and how many columns come before the classes, where the final scores fit."""
    for logits in (False, True):
        rows = 1 / (1 + np.exp(-np.clip(table[place], -500, 500))) if logits else table[place]
        for skip in (0, 1, 4, 5):
            column = classes + skip
            if (column < table.shape[1]).all():
                said = rows[np.arange(len(place)), column]
                if (np.abs(said - confidences) <= SCORES).all():
                    yield logits, skip
