"""The rule for MaxRoiPool: a bin's cotangent goes to the first of its largest entries, as in torchvision."""

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.scanning import scan
from onnxsal.autodiff.rules.tracing import scatter

# Its corners are rounded to whole entries.
declare_zero("MaxRoiPool", "rois")


@vjp("MaxRoiPool", wrt="X")
def max_roi_pool(op, node, g):
    sample = op.Cast(op.Slice(node.rois, [0], [1], [1]), to=ir.DataType.INT64)  # (R, 1)
    rows, columns = (_within(op, node, axis) for axis in (2, 3))  # (R, bins, size)
    # One region after the other: all bins of all regions over all of X would not fit.
    _, (place,) = scan(op, [], [sample, rows, columns], lambda op, _, items: ([], [_largest(op, node, *items)]))
    full = op.And(op.Unsqueeze(_any(op, rows), [2]), op.Unsqueeze(_any(op, columns), [1]))
    updates = op.Where(op.Unsqueeze(full, [1]), g, 0.0)
    count = op.Size(node.X)
    found = scatter(
        op,
        op.ScatterElements,
        op.Expand(op.scalar(0, like=g), op.Reshape(count, [1])),
        op.Reshape(place, [-1]),
        op.Reshape(updates, [-1]),
        reduction="add",
    )
    return op.reshape_like(found, node.X)


def _largest(op, node, sample, rows, columns):
    """Return where in all of X the largest entry of each bin of one region lies, (C, h, w)."""
    X, lowest = op.Gather(node.X, sample), op.scalar(-np.inf, like=node.X)  # (1, C, H, W)
    X = op.Unsqueeze(op.Squeeze(X, [0]), [1])
    across = op.Where(op.Unsqueeze(columns, [1]), X, lowest)  # (C, w, H, W)
    best = op.Unsqueeze(op.ReduceMax(across, [3], keepdims=0), [1])
    down = op.ArgMax(op.Where(op.Unsqueeze(rows, [1]), best, lowest), axis=3, keepdims=0)  # (C, h, w)
    at = op.Transpose(down, perm=[0, 2, 1])
    along = op.GatherElements(op.ArgMax(across, axis=3, keepdims=0), at, axis=2)
    channels, height, width = (op.dim(node.X, axis) for axis in (1, 2, 3))
    first = op.Add(op.Mul(sample, channels), op.Range(0, op.Squeeze(channels, [0]), 1))
    place = op.Add(op.Mul(down, width), op.Transpose(along, perm=[0, 2, 1]))
    return op.Add(place, op.Unsqueeze(op.Mul(first, op.Mul(height, width)), [1, 2]))


def _within(op, node, axis):
    """Tell which entries along an axis are in which bin of each region, (R, bins, size)."""
    bins, at = node.attrs["pooled_shape"][axis - 2], 2 if axis == 2 else 1  # a region is (sample, x1, y1, x2, y2)
    edges = _rounded(op, op.Mul(node.rois, node.attrs["spatial_scale"]))
    start, end = (op.Slice(edges, [i], [i + 1], [1]) for i in (at, at + 2))
    extent = op.Max(op.Add(op.Sub(end, start), 1.0), 1.0)
    step, number = op.Div(extent, float(bins)), np.arange(bins)
    low = op.Add(op.Floor(op.Mul(step, number)), start)
    high = op.Add(op.Ceil(op.Mul(step, number + 1)), start)
    entries = op.cast(op.Range(0, op.Squeeze(op.dim(node.X, axis), [0]), 1), low.dtype)
    low, high = op.Unsqueeze(low, [2]), op.Unsqueeze(high, [2])
    return op.And(op.GreaterOrEqual(entries, low), op.Less(entries, high))


def _rounded(op, x):
    """Round halves away from zero, unlike Round."""
    return op.Mul(op.Sign(x), op.Floor(op.Add(op.Abs(x), 0.5)))


def _any(op, within):
    """Tell of each bin along an axis whether any entry is in it, (R, bins)."""
    return op.Cast(op.ReduceMax(op.Cast(within, to=ir.DataType.INT32), [2], keepdims=0), to=ir.DataType.BOOL)
