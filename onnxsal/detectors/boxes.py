"""Boxes as (x1, y1, x2, y2), x2 and y2 exclusive: how much they share, and which of them to keep."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def iou(a: Array, b: Array) -> Array:
    """Return the intersection over the union of each of A boxes (A, 4) with each of B (B, 4): (A, B), in [0, 1]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = area(a)[:, None] + area(b)[None] - shared
    ratio: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def area(boxes: Array) -> Array:
    """Return the area of each box; one turned inside out has none."""
    sides: Array = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: Array = sides.prod(axis=1)
    return product


def suppress(boxes: Array, scores: Array, classes: Array, overlap: float) -> Array:
    """Return which boxes stay when each one removes those of its class that it overlaps, best first: indices.

    Non-maximum suppression as all detectors have it: greedy, within a class.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        clashes = (iou(boxes[best : best + 1], boxes[rest])[0] > overlap) & (classes[rest] == classes[best])
        order = rest[~clashes]
    return np.array(kept, np.int64)
