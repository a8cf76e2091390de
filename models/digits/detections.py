"""How good a detector is: suppression, matching to the truth, recall and average precision. NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

# Average precision as for COCO is the mean over these; https://cocodataset.org/#detection-eval
OVERLAPS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class Found:
    """D boxes on one picture: (D, 4) corners in pixels, (D,) classes, (D,) scores."""

    boxes: Floats
    labels: Whole
    scores: Floats


def read_rows(rows: NDArray[np.float32], least: float, overlap: float = 0.5) -> Found:
    """Return what one picture's rows (P, 5 + K) say: x, y, width, height, objectness, probabilities.

    Args:
        rows: The head's answer.
        least: Score from which a box counts.
        overlap: Above this, the surer of two boxes of a class removes the other.
    """
    scores = rows[:, 4] * rows[:, 5:].max(axis=1)
    rows, scores = rows[scores >= least].astype(np.float64), scores[scores >= least].astype(np.float64)
    half = rows[:, 2:4] / 2
    boxes, labels = np.hstack([rows[:, :2] - half, rows[:, :2] + half]), rows[:, 5:].argmax(axis=1)
    # Classes side by side, so that no box touches one of another class.
    apart = boxes + 10_000 * labels[:, None]
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not kept or iou(apart[[i]], apart[kept]).max() <= overlap:
            kept.append(int(i))
    return Found(boxes[kept], labels[kept], scores[kept])


def iou(a: Floats, b: Floats) -> Floats:
    """Return the intersection over the union of each of a (A, 4) with each of b (B, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas_a, areas_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b))
    return np.asarray(shared / (areas_a[:, None] + areas_b[None] - shared))


def matches(found: Found, labels: Whole, boxes: Floats, overlap: float) -> Whole:
    """Return for each detection, the surest first, the true box (of its class) that it finds, or -1.

    A true box is found once; by whichever of the surest overlaps it most.
    """
    shared = iou(found.boxes, boxes) * (found.labels[:, None] == labels[None])
    matched = np.full(len(found.labels), -1)
    for i in range(len(matched)):
        best = int(shared[i].argmax())
        if shared[i, best] >= overlap:
            matched[i] = best
            shared[:, best] = 0
    return matched


def mean_average_precision(found: list[Found], truth: list[tuple[Whole, Floats]], overlap: float) -> float:
    """Return the mean over classes of the area under precision over recall, as for COCO (101 points)."""
    hits = [matches(one, labels, boxes, overlap) >= 0 for one, (labels, boxes) in zip(found, truth, strict=True)]
    classes = np.concatenate([one.labels for one in found])
    scores, hit = np.concatenate([one.scores for one in found]), np.concatenate(hits)
    true = np.concatenate([labels for labels, _ in truth])
    return float(np.mean([_precision(scores[classes == k], hit[classes == k], (true == k).sum()) for k in set(true)]))


def _precision(scores: Floats, hit: NDArray[np.bool_], count: int) -> float:
    true = np.cumsum(hit[np.argsort(-scores, kind="stable")])
    recall, precision = true / count, true / np.arange(1, len(true) + 1)
    # The best precision at this recall or any above it.
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(best[np.searchsorted(recall, np.linspace(0, 1, 101))].mean())
