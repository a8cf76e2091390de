"""Pieces that decoders share: parts of a value, boxes by centre, boxes by a grid."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsal.graph.builder import Op

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
