"""Find the proposals of a head that has suppressed, among all that it computes.

Which values these are is not guessed from names. All that have the right shape and lie before the outputs are looked
at on a photo, and boxes and scores are taken only if every final box is among the boxes, with its score among its
scores.
"""

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsal.detectors.detections import Detections
from onnxsal.detectors.peeling import LARGEST, Boxes, Corners, Peel, Scores, is_wide
from onnxsal.graph.flow import read_values, subgraphs
from onnxsal.graph.types import dims, is_float

Array = npt.NDArray[Any]
PIXELS = 1.0
"""How far a final box may lie from the proposal that it was."""
SCORES = 5e-3
MOST = 150
"""Values that are looked at, of either kind, the last before the outputs first."""
SKIPS = (0, 1, 4, 5)
"""Columns that may come before the first class: a background, a box, a box and its objectness."""


@dataclass(frozen=True)
class Candidates:
    """Names of values that may be what is looked for, the last before the outputs first.

    Attributes:
        boxes: May hold boxes, offsets or anchors.
        scores: May hold scores.
        images: The image as the graph resizes it, whose pixels boxes may be in.
        anchors: Array by name of weights that may be anchors, (P, 4).
    """

    boxes: Sequence[str]
    scores: Sequence[str]
    images: Sequence[str]
    anchors: Mapping[str, Array] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All, each once."""
        return list(dict.fromkeys([*self.boxes, *self.scores, *self.images]))


def candidates(model: ir.Model) -> Candidates:
    """Return the values of a model that its proposals may be found in; none where it selects nothing."""
    values = [v for v in _behind_selection(model.graph) if is_float(v)]
    boxes = [v for v in values if _may_hold_boxes(dims(v) or ())]
    # What some threshold let through is as long as the run has it; all that there is comes first.
    boxes.sort(key=lambda v: not isinstance(_count(dims(v) or ()), int))
    counts = {_count(dims(v) or ()) for v in boxes}
    fours = {_count(shape) for v in boxes if (shape := dims(v) or ())[-1] == 4 and isinstance(_count(shape), int)}
    # Two open counts may be one, whatever they are called.
    scores = [v for v in values if _may_hold_scores(dims(v) or ()) and _is_among(_count(dims(v) or ()), counts)]
    scores.sort(key=lambda v: (_count(dims(v) or ()) not in fours, *_openness(dims(v) or ())))
    images = [v for v in values if _is_resized_image(v)]
    anchors = {
        str(v.name): v.const_value.numpy()
        for v in model.graph.initializers.values()
        if v.const_value is not None and is_float(v) and len(shape := dims(v) or ()) == 2 and shape[1] == 4
        if shape[0] in fours
    }
    boxes_named, scores_named, images_named = ([str(v.name) for v in found[:MOST]] for found in (boxes, scores, images))
    return Candidates(boxes_named, scores_named, images_named, anchors)


def _may_hold_boxes(shape: tuple[object, ...]) -> bool:
    if len(shape) == 2 or (len(shape) == 3 and shape[0] != 1 and shape[2] == 4):
        return shape[-1] == 4
    return len(shape) == 3 and any(isinstance(d, int) and d >= 4 for d in shape[1:])


def _may_hold_scores(shape: tuple[object, ...]) -> bool:
    return (len(shape) == 2 and shape[1] != 4) or (len(shape) == 3 and shape[2] != 4)


def _count(shape: tuple[object, ...]) -> object:
    """Return how many proposals a value is about, as its shape says it."""
    if len(shape) == 2 or shape[0] not in (1, None):
        return shape[0]
    return shape[2] if is_wide(shape) else shape[1]


def _is_among(count: object, counts: set[object]) -> bool:
    return count in counts or not (isinstance(count, int) or all(isinstance(other, int) for other in counts))


def _openness(shape: tuple[object, ...]) -> tuple[int, int, bool]:
    """Order values whose counts are all open: scores have as many classes as the file says, last, and most a batch."""
    return sum(not isinstance(size, int) for size in shape), -len(shape), not isinstance(shape[-1], int)


def _is_resized_image(value: ir.Value) -> bool:
    node, shape = value.producer(), dims(value) or ()
    return node is not None and node.op_type == "Resize" and len(shape) in (3, 4) and 3 in (shape[-3], shape[-1])


def _behind_selection(graph: ir.Graph) -> list[ir.Value]:
    """Return the values that outputs are computed from and that come before the last selection, the last first."""
    nodes = list(graph)
    # Which nodes each value is computed from: one bit a node, as sets of thousands would fill the memory.
    sources: dict[ir.Value, int] = {}
    for i, node in enumerate(nodes):
        behind = 1 << i
        for value in read_values(node):
            behind |= sources.get(value, 0)
        sources |= dict.fromkeys(node.outputs, behind)
    chosen = [(i, sources[node.outputs[0]]) for i, node in enumerate(nodes) if _selects(node)]
    # What is selected from is selected itself in some heads: the regions of an R-CNN, the queries of RT-DETR.
    last = sum(1 << i for i, _ in chosen if not any(behind >> i & 1 for j, behind in chosen if j != i))
    used = functools.reduce(operator.or_, (sources.get(v, 0) for v in graph.outputs), 0)
    kept = [node for i, node in enumerate(nodes) if used >> i & 1 and not sources[node.outputs[0]] & last]
    return [v for node in reversed(kept) for v in node.outputs] if last else []


def _selects(node: ir.Node) -> bool:
    """Tell whether a node selects boxes, or a body of it does: torchvision suppresses in the branches of an If."""
    inner = (n for body in subgraphs(node) for n in ir.traversal.RecursiveGraphIterator(body))
    return any(n.op_type in ("NonMaxSuppression", "TopK") for n in (node, *inner))


# ----- What they hold -----


def match(found: Mapping[str, Array], names: Candidates, final: Detections, size: tuple[int, int]) -> Peel | None:
    """Return how to read the proposals that every final box and its score are among, or None.

    Args:
        found: Array by name, on one photo.
        names: What the arrays may be.
        final: What the head says at last, boxes in pixels of the input.
        size: Height and width of the input.
    """
    for boxes, rows in _readings(found, names, size):
        near = _near(rows.reshape(-1, 4), final.boxes)
        if near is None:
            continue
        each = rows.shape[1] if rows.ndim == 3 else None
        for scores, table in _tables(found, names, len(rows)):
            peel = _peel(boxes, scores, table, near, each, final)
            if peel is not None:
                return peel
    return None


def _peel(
    boxes: Boxes, scores: Scores, table: Array, near: Sequence[Array], each: int | None, final: Detections
) -> Peel | None:
    """Return how to read boxes and scores together, if every final box has its score."""
    classes = final.classes - final.first_class
    for skip in SKIPS:
        before = 0 if each is None else skip - (table.shape[1] - each)
        if skip + classes.max() >= table.shape[1] or before < 0:
            continue
        pairs = zip(near, classes, final.scores, strict=True)
        if all(_says(table, places, label + skip, score, each, label + before) for places, label, score in pairs):
            kept = replace(scores, skip=skip)
            return Peel(boxes, kept, final.first_class, None if each is None else before)
    return None


def _says(table: Array, places: Array, column: int, score: float, each: int | None, own: int) -> bool:
    """Tell whether one of some proposals has that score in that column; of a box of one class, if it is of this."""
    rows = places if each is None else places[places % each == own] // each
    return bool(len(rows)) and bool((np.abs(table[rows, column] - score) <= SCORES).any())


def places_of(everything: Detections, final: Detections) -> Array | None:
    """Return which proposal each final detection is, by its box and the score of its class; None if one is none."""
    near = _near(everything.boxes.astype(np.float64), final.boxes)
    if near is None:
        return None
    classes = final.classes - final.first_class
    scores = everything.probabilities * everything.objectness[:, None]
    best = [
        rows[np.abs(scores[rows, label] - score).argmin()]
        for rows, label, score in zip(near, classes, final.scores, strict=True)
    ]
    return np.array(best, np.int64)


def _near(rows: Array, wanted: Array) -> list[Array] | None:
    """Return for each box which rows lie close to it; None if for one there is none."""
    found = []
    for box in wanted:
        close = np.flatnonzero(np.abs(rows - box).max(axis=1) <= PIXELS)
        if not len(close):
            return None
        found.append(close)
    return found


# ----- Readings -----


def _table(array: Array) -> Array | None:
    """Return (P, C) of what is (1, P, C), (1, C, P) or (P, C)."""
    if array.ndim == 3 and array.shape[0] == 1:
        rows = array[0].astype(np.float64)
        turned: Array = rows.T if is_wide(array.shape) else rows
        return turned
    return array.astype(np.float64) if array.ndim == 2 else None


def _readings(found: Mapping[str, Array], names: Candidates, size: tuple[int, int]) -> Iterator[tuple[Boxes, Array]]:
    """Yield what boxes may be written in which way, and these as corners in pixels: (P, 4), or (P, K, 4)."""
    height, width = size
    scales = [None, *dict.fromkeys(_scale(found[name].shape, size) for name in names.images)]
    for said, rows in _written(found, names, size):
        for scale in scales:
            factor = np.ones(4) if scale is None else np.array([*scale, *scale])
            own = replace(said, scale=scale)
            yield own, rows * factor
            inside = (float(width / factor[0]), float(height / factor[1]))
            cut = np.clip(rows, 0, [*inside, *inside])
            if (cut != rows).any():
                yield replace(own, clip=inside), cut * factor


def _scale(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[float, float]:
    rows, columns = shape[-2:] if shape[-3] == 3 else shape[-3:-1]
    return size[1] / columns, size[0] / rows


def _written(found: Mapping[str, Array], names: Candidates, size: tuple[int, int]) -> Iterator[tuple[Boxes, Array]]:
    """Yield the ways to read each value as corners, before any scaling."""
    whole = np.array([size[1], size[0]] * 2)
    for name in names.boxes:
        array = found[name]
        rows = _table(array)
        if rows is None and array.ndim == 3 and array.shape[2] == 4:
            yield Boxes(name, "xy"), array.astype(np.float64)
        if rows is None or rows.shape[1] < 4 or not len(rows):
            continue
        for corners, read in _plain(rows[:, :4]).items():
            yield Boxes(name, corners), read
            yield Boxes(name, corners, fractions=True), read * whole
    yield from _anchored(found, names)


def _plain(rows: Array) -> dict[Corners, Array]:
    half = rows[:, 2:] / 2
    return {
        "xy": rows,
        "yx": rows[:, [1, 0, 3, 2]],
        "centre": np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1),
    }


def _anchored(found: Mapping[str, Array], names: Candidates) -> Iterator[tuple[Boxes, Array]]:
    """Yield what offsets from anchors come to, for any two values of as many rows of four."""
    tables = {name: rows for name in names.boxes if (rows := _table(found[name])) is not None and rows.shape[1] == 4}
    given = tables | {name: array.astype(np.float64) for name, array in names.anchors.items()}
    anchors = {name: rows for name, rows in given.items() if len(rows) and (rows[:, 2:] > rows[:, :2]).all()}
    for name, rows in tables.items():
        for other, fixed in anchors.items():
            if other == name or len(fixed) != len(rows):
                continue
            sides, middle = fixed[:, 2:] - fixed[:, :2], (fixed[:, 2:] + fixed[:, :2]) / 2
            centre, half = middle + rows[:, :2] * sides, np.exp(np.minimum(rows[:, 2:], LARGEST)) * sides / 2
            yield Boxes(name, "offsets", anchors=other), np.concatenate([centre - half, centre + half], axis=1)
            reach = rows * np.concatenate([sides, sides], axis=1)
            ends = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], axis=1)
            yield Boxes(name, "distances", anchors=other), ends


def _tables(found: Mapping[str, Array], names: Candidates, count: int) -> Iterator[tuple[Scores, Array]]:
    """Yield what scores may be written in which way, and these, (P, C)."""
    tables = {name: rows for name in names.scores if (rows := _table(found[name])) is not None and len(rows) == count}
    for name, rows in tables.items():
        yield Scores(name), rows
        yield Scores(name, logits=True), _sigmoid(rows)
    for name, rows in tables.items():
        for other, centred in tables.items():
            if centred.shape[1] == 1 and other != name:
                yield Scores(name, logits=True, centred=other), np.sqrt(_sigmoid(rows) * _sigmoid(centred))


def _sigmoid(rows: Array) -> Array:
    said: Array = 1 / (1 + np.exp(-np.clip(rows, -500, 500)))
    return said
