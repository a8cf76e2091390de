"""Pieces that decoders share: parts of a value, boxes by centre, boxes by a grid."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsal.detectors.registry import Proposals
from onnxsal.graph.builder import Op, rank

Floats = npt.NDArray[np.float32]


def part(op: Op, value: ir.Value, start: int, stop: int | None = None, *, axis: int = -1) -> ir.Value:
    """Return entries from `start` up to `stop` along an axis; None goes to the end."""
    return op.Slice(value, [start], [np.iinfo(np.int64).max if stop is None else stop], [axis])


def column(op: Op, value: ir.Value, index: int) -> ir.Value:
    """Return one entry of the last axis, without that axis."""
    return op.Squeeze(part(op, value, index, index + 1), [-1])


def from_centres(op: Op, centres: ir.Value, sizes: ir.Value) -> ir.Value:
    """Return (..., 4) corners from centres (..., 2) and sizes (..., 2)."""
    half = op.Mul(sizes, op.scalar(0.5, like=sizes))
    return op.Concat(op.Sub(centres, half), op.Add(centres, half), axis=-1)


def hull(op: Op, centres: ir.Value, sizes: ir.Value, angles: ir.Value) -> ir.Value:
    """Return corners (..., 4) of the upright boxes around boxes (..., 2) turned by angles (..., 1), in radians."""
    wide, high = op.Abs(op.Cos(angles)), op.Abs(op.Sin(angles))
    extent = op.Abs(sizes)  # a side that comes out negative spans as much
    width, height = part(op, extent, 0, 1), part(op, extent, 1, 2)
    across = op.Add(op.Mul(width, wide), op.Mul(height, high))
    down = op.Add(op.Mul(width, high), op.Mul(height, wide))
    return from_centres(op, centres, op.Concat(across, down, axis=-1))


def grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the cells of grids of several strides, row by row.

    Returns:
        Their corners (P, 2), as (x, y) in units of the stride, and their strides (P, 1); float32.
    """
    corners, scales = [], []
    for stride in strides:
        height, width = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.mgrid[:height, :width]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        scales.append(np.full((height * width, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(scales).astype(np.float32)


def to_pixels(op: Op, fractions: ir.Value, size: tuple[int, int]) -> ir.Value:
    """Return boxes (..., 4) in pixels of the model's input from x1, y1, x2, y2 in 0..1 (or x, y, w, h alike)."""
    height, width = size
    return op.Mul(fractions, op.const(np.array([width, height, width, height]), fractions.dtype))


def rows_first(op: Op, boxes: ir.Value) -> ir.Value:
    """Return (..., 4) with x and y exchanged: y1, x1, y2, x2 as x1, y1, x2, y2, and the other way."""
    return op.Gather(boxes, op.const([1, 0, 3, 2]), axis=-1)


def with_batch(op: Op, value: ir.Value, axes: int) -> ir.Value:
    """Return a value with a batch of one in front, if it has fewer axes than `axes`."""
    return value if rank(value) == axes else op.Unsqueeze(value, [0])


def one_of(op: Op, classes: ir.Value, scores: ir.Value, count: int, first: int) -> ir.Value:
    """Return class probabilities (N, D, count) of boxes of which only the best class and its score are known.

    Args:
        op: The builder.
        classes: (N, D), numbers of any type.
        scores: (N, D).
        count: Number of classes.
        first: The number of the first class.
    """
    numbers = op.const(np.arange(first, first + count), ir.DataType.INT64)
    hit = op.Equal(op.Unsqueeze(op.cast(classes, ir.DataType.INT64), [2]), numbers)
    return op.Mul(op.cast(hit, scores.dtype), op.Unsqueeze(scores, [2]))


def finished(op: Op, boxes: ir.Value, scores: ir.Value, classes: ir.Value, count: int, first: int = 0) -> Proposals:
    """Return proposals of which the best class alone is known; boxes (N, D, 4) or (D, 4), scores and classes alike."""
    boxes, scores, classes = with_batch(op, boxes, 3), with_batch(op, scores, 2), with_batch(op, classes, 2)
    probabilities = one_of(op, classes, scores, count, first)
    return Proposals(boxes, probabilities, top_only=True, distinct=True, first_class=first)


def side_distances(op: Op, centres: ir.Value, distances: ir.Value) -> ir.Value:
    """Return corners (..., 4) from centres (..., 2) and distances (..., 4) to the left, top, right and bottom side."""
    return op.Concat(op.Sub(centres, part(op, distances, 0, 2)), op.Add(centres, part(op, distances, 2, 4)), axis=-1)
