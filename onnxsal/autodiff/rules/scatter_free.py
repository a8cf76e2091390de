"""Rules for browsers, in place of those that scatter.

What picks along an axis is a matrix of zeros and ones, so its adjoint is a product with that matrix; where
indices are constant and name few places often, it is a few picks back. Other rules that scatter stay, and are
spelled out by `graph/web.py`; these need less memory.
"""

import numpy as np

from onnxsal.autodiff.registry import SCATTER_FREE, STANDARD
from onnxsal.autodiff.rules import indexing, slices
from onnxsal.autodiff.rules.resize import contract
from onnxsal.autodiff.rules.windows import (
    concat,
    dilations,
    fit_spatially,
    pad_spatially,
    padding,
    spatial,
    spatial_shape,
)
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims

# Picks that a constant index may need before a matrix is the better.
MOST_PICKS = 8


@SCATTER_FREE.rule("Gather", wrt="data")
def gather(op, node, g):
    axis = node.attrs["axis"] % rank(node.data)
    indices, size = node.const("indices"), dims(node.data)[axis]
    if indices is not None and indices.ndim <= 1 and indices.size:
        if indexing.progression(indices.ravel()) or indexing.inverse(indices, size) is not None:
            return STANDARD.lookup("", "Gather", "data")(op, node, g)
        if isinstance(size, int) and (places := picks(indices % size, size)) is not None:
            return op.Sum(*(indexing.regather(op, g, back, axis) for back in places))
    indices = op.Reshape(node.indices, [-1])
    if rank(node.indices) != 1:
        sizes = [op.dim(node.data, a) for a in range(rank(node.data))]
        g = op.Reshape(g, concat(op, *sizes[:axis], op.shape(indices), *sizes[axis + 1 :]), allowzero=1)
    return put_back(op, g, axis, indices, op.dim(node.data, axis))


def picks(indices, size):
    """Return, k by k, which entry of `indices` is the k-th to name each place, -1 for none; None if they are many."""
    count = np.bincount(indices, minlength=size)
    if count.max() > MOST_PICKS:
        return None
    order = np.argsort(indices, kind="stable")
    turn = np.arange(indices.size) - np.repeat(np.cumsum(count) - count, count)
    backs = np.full((count.max(), size), -1, np.int64)
    backs[turn, indices[order]] = order
    return backs


def put_back(op, g, axis, indices, size):
    """Return `size` entries along an axis, with those of g added where `indices`, one for each, name places."""
    zero = op.cast(op.const(0), indices.dtype)
    size = op.cast(size, indices.dtype)
    indices = op.Where(op.Less(indices, zero), op.Add(indices, size), indices)
    places = op.Range(zero, op.Squeeze(size, [0]), op.cast(op.const(1), indices.dtype))
    picked = op.cast(op.Equal(op.Unsqueeze(indices, [1]), places), g.dtype)
    return contract(op, g, axis, picked)


@SCATTER_FREE.rule("Compress", wrt="input")
def compress(op, node, g):
    taken = op.Reshape(op.NonZero(node.condition), [-1])
    axis = node.attrs.get("axis")
    if axis is not None:
        axis %= rank(node.input)
        return put_back(op, g, axis, taken, op.dim(node.input, axis))
    return op.reshape_like(put_back(op, g, 0, taken, op.Reshape(op.Size(node.input), [1])), node.input)


@SCATTER_FREE.rule("Pad", wrt="data")
def pad(op, node, g):
    """Put g back axis by axis: which entry of the data stands where, the padded numbers of its entries tell."""
    axes = node.const("axes") if node.axes is not None else np.arange(rank(node.data))
    if node.attrs["mode"] == "constant" or axes is None:
        return slices.pad_data(op, node, g)
    for i, axis in enumerate(int(a) % rank(node.data) for a in axes):
        ends = [op.Slice(node.pads, [at], [at + 1], [0]) for at in (i, i + len(axes))]
        size = op.dim(node.data, axis)
        numbers = op.Range(0, op.Squeeze(size, [0]), 1)
        g = put_back(op, g, axis, op.Pad(numbers, op.Concat(*ends, axis=0), mode=node.attrs["mode"]), size)
    return g


# ----- Windows -----


@SCATTER_FREE.rule("MaxPool", wrt="X")
def max_pool(op, node, g):
    """Hand each cotangent to the first entry of its window that equals the maximum, tap by tap."""
    if spatial(node.X) is not None and spatial(node.Y) is not None and "pads" in node.attrs:
        return STANDARD.lookup("", "MaxPool", "X")(op, node, g)
    n = len(node.attrs["strides"])
    axes, strides = list(range(2, n + 2)), list(node.attrs["strides"])
    begin, end = padding(op, node)
    # Behind the padding lies what the last windows reach beyond it, as `ceil_mode` lets them.
    X = pad_spatially(op, node.X, begin, op.Add(end, strides), -np.inf)
    count = spatial_shape(op, node.Y)
    total = None
    for tap in np.ndindex(*node.attrs["kernel_shape"]):
        first = [t * d for t, d in zip(tap, dilations(node), strict=True)]
        last = op.Add(op.Mul(op.Sub(count, [1]), strides), [f + 1 for f in first])
        hit = op.Equal(op.Slice(X, first, last, axes, strides), node.Y)
        share = op.Mul(g, op.cast(hit, g.dtype))
        g = op.Sub(g, share)
        laid = slices.lay(op, share, X, axes, op.const(first), strides)
        total = laid if total is None else op.Add(total, laid)
    return fit_spatially(op, node, total, begin, spatial_shape(op, node.X))
