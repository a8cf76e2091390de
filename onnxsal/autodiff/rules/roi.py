"""The rule for RoiAlign.

Samples lie on a grid, so averaging them is a matrix per region and axis: Y = A X Bᵀ. The regions themselves
get no cotangent, as in torchvision, whose kernel has none for them.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.autodiff.rules.windows import concat

declare_zero("RoiAlign", "rois")


@vjp("RoiAlign", wrt="X")
def roi_align(op, node, g):
    return _average(op, node, g) if node.attrs["mode"].lower() == "avg" else _largest(op, node, g)


# ----- The mean of the samples -----


def _average(op, node, g):
    """Return Aᵀ g B, summed over the regions of each sample of the batch.

    Both sums are matrix products: a region's cotangent of X, written out, would be as large as X.
    """
    rows = _averaging(op, node, 2, g.dtype)
    columns = op.Unsqueeze(_averaging(op, node, 3, g.dtype), [1])
    wide = op.MatMul(op.Transpose(g, perm=[0, 2, 1, 3]), columns)  # (R, bins, C, W)
    samples = op.Range(0, op.Squeeze(op.dim(node.X, 0), [0]), 1)
    belongs = op.cast(op.Equal(op.Unsqueeze(node.batch_indices, [1]), samples), g.dtype)
    tall = op.Mul(op.Unsqueeze(belongs, [1, 3]), op.Unsqueeze(rows, [2]))  # (R, bins, N, H)
    flat = op.MatMul(op.Transpose(op.Flatten(tall, axis=2), perm=[1, 0]), op.Flatten(wide, axis=2))
    shape = concat(op, *(op.dim(node.X, axis) for axis in (0, 2, 1, 3)))
    return op.Transpose(op.Reshape(flat, shape), perm=[0, 2, 1, 3])


def _averaging(op, node, axis, dtype):
    """Return what each bin takes from each entry of X along an axis, (R, bins, size)."""
    samples = _samples(op, node, axis)
    entries = op.cast(op.Range(0, op.Squeeze(op.dim(node.X, axis), [0]), 1), dtype)
    distance = op.Abs(op.Sub(op.Unsqueeze(samples.place, [3]), entries))
    weight = op.Relu(op.Sub(op.scalar(1, like=distance), distance))
    weight = op.Mul(weight, op.Unsqueeze(op.Mul(samples.inside, op.cast(samples.taken, dtype)), [3]))
    return op.Div(op.ReduceSum(weight, [2], keepdims=0), samples.count)


# ----- The largest of the samples -----


def _largest(op, node, g):
    """Give the cotangent to the entry that gave the maximum.

    As ONNX Runtime does it, and ONNX's reference: the maximum is over the four weighted entries around each
    sample, not over the samples.
    """
    vertical, horizontal = (_corners(op, node, axis) for axis in (2, 3))
    weight = _pairs(op, "Mul", vertical.weight, horizontal.weight)
    taken = _pairs(op, "And", vertical.taken, horizontal.taken)
    width = op.dim(node.X, 3)
    place = _pairs(op, "Add", op.Mul(vertical.index, width), horizontal.index)
    first = op.Mul(node.batch_indices, op.Mul(op.dim(node.X, 2), width))
    place = op.Add(place, op.Unsqueeze(first, [1, 2, 3]))
    X = op.Transpose(node.X, perm=[0, 2, 3, 1])
    rows = op.Reshape(X, concat(op, op.const([-1]), op.dim(node.X, 1)))
    weight, taken = op.Unsqueeze(weight, [4]), op.Unsqueeze(taken, [4])
    values = op.Mul(op.Gather(rows, place), weight)  # (R, bins, bins, corners, C)
    values = op.Where(taken, values, op.scalar(-np.inf, like=values))
    corners = op.Range(0, op.Squeeze(op.Shape(place, start=3), [0]), 1)
    # A region turned inside out has no samples at all.
    largest = op.And(op.Equal(op.Unsqueeze(corners, [1]), op.ArgMax(values, axis=3, keepdims=1)), taken)
    updates = op.Mul(op.Mul(op.cast(largest, g.dtype), weight), op.Unsqueeze(op.Transpose(g, perm=[0, 2, 3, 1]), [3]))
    updates = op.Reshape(updates, concat(op, op.const([-1]), op.dim(node.X, 1)))
    zeros = op.Expand(op.scalar(0, like=g), op.Shape(rows))
    found = scatter(op, op.ScatterND, zeros, op.Reshape(place, [-1, 1]), updates, reduction="add")
    return op.Transpose(op.Reshape(found, op.Shape(X)), perm=[0, 3, 1, 2])


@dataclass(frozen=True)
class Corners:
    """The two entries of X around each sample along one axis, (R, bins, 2 · samples) each."""

    index: ir.Value
    weight: ir.Value
    taken: ir.Value


def _corners(op, node, axis):
    samples = _samples(op, node, axis)
    low = op.Floor(samples.place)
    index = op.Add(op.Unsqueeze(op.Cast(low, to=ir.DataType.INT64), [3]), op.const([0, 1]))
    index = op.Min(index, op.Sub(op.dim(node.X, axis), [1]))
    upper = op.Unsqueeze(op.Sub(samples.place, low), [3])
    weight = op.Add(op.Mul(upper, op.const([-1, 1], low.dtype)), op.const([1, 0], low.dtype))
    weight = op.Mul(weight, op.Unsqueeze(samples.inside, [3]))
    taken = op.And(op.Unsqueeze(samples.taken, [3]), op.const([True, True]))
    return Corners(*(op.Reshape(v, [0, 0, -1]) for v in (index, weight, taken)))


def _pairs(op, operator, vertical, horizontal):
    """Combine (R, h, a) and (R, w, b) to (R, h, w, a * b)."""
    made = op.emit(operator, op.Unsqueeze(vertical, [2, 4]), op.Unsqueeze(horizontal, [1, 3]))
    return op.Reshape(made, [0, 0, 0, -1])


# ----- Where the samples lie -----


@dataclass(frozen=True)
class Samples:
    """The samples of each region along one axis, (R, bins, samples) each.

    Attributes:
        place: In entries of X, kept within them.
        inside: 1, but 0 for what is so far outside that it reads 0.
        taken: Whether there is such a sample: regions may have different numbers of them.
        count: How many there are, at least 1; (R, 1, 1).
    """

    place: ir.Value
    inside: ir.Value
    taken: ir.Value
    count: ir.Value


def _samples(op, node, axis):
    bins = node.attrs["output_height" if axis == 2 else "output_width"]
    start, extent = _region(op, node, axis)
    dtype = start.dtype
    step = op.Div(extent, op.const(bins, dtype))
    ratio = node.attrs["sampling_ratio"]
    count = op.const(np.full((1, 1, 1), ratio), dtype) if ratio > 0 else op.Ceil(step)
    most = op.const(ratio) if ratio > 0 else op.Cast(op.ReduceMax(count, keepdims=0), to=ir.DataType.INT64)
    number = op.cast(op.Range(0, op.Max(most, op.const(1)), 1), dtype)
    taken = op.And(op.Less(number, count), op.const(np.ones((1, bins, 1), bool)))
    count = op.Max(count, op.const(1, dtype))
    within = op.Div(op.Mul(op.Add(number, op.const(0.5, dtype)), step), count)
    begins = op.Add(start, op.Mul(op.const(np.arange(bins).reshape(1, bins, 1), dtype), step))
    return _around(op, node, axis, op.Add(begins, within), taken, count)


def _around(op, node, axis, place, taken, count):
    size = op.cast(op.Squeeze(op.dim(node.X, axis), [0]), place.dtype)
    inside = op.And(op.GreaterOrEqual(place, op.scalar(-1, like=place)), op.LessOrEqual(place, size))
    place = op.Clip(place, op.scalar(0, like=place), op.Sub(size, op.scalar(1, like=place)))
    return Samples(place, op.cast(inside, place.dtype), taken, count)


def _region(op, node, axis):
    """Return where the regions begin along an axis and how far they reach, in entries of X, (R, 1, 1) each."""
    half_pixel = node.attrs["coordinate_transformation_mode"].lower() == "half_pixel"
    edges = op.Mul(node.rois, op.scalar(node.attrs["spatial_scale"], like=node.rois))
    if half_pixel:
        edges = op.Sub(edges, op.scalar(0.5, like=edges))
    # A region is (x1, y1, x2, y2).
    start, end = (op.Unsqueeze(op.Slice(edges, [at], [at + 1], [1]), [2]) for at in ((1, 3) if axis == 2 else (0, 2)))
    extent = op.Sub(end, start)
    return start, extent if half_pixel else op.Max(extent, op.scalar(1, like=extent))
