"""Rules for DeformConv: W times columns, read from X between its entries where offsets say, times a mask.

There is a block of rows for each sample and group of channels that moves together, (B, rows, C) in all; a
block has a row per tap of the kernel and place of Y. The product is the same as in a convolution.
"""

import math

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.taps import move, places_first, read, spread, tap, weigh
from onnxsal.autodiff.rules.windows import concat, spatial, spatial_shape
from onnxsal.graph.builder import rank
from onnxsal.graph.types import constant, dims


@vjp("DeformConv", wrt="X")
def deform_data(op, node, g):
    found = spread(op, _array(op, node), node.once(_taps), _masked(op, node, _rows_cotangent(op, node, g)))
    return op.reshape_like(op.Transpose(found, perm=[0, 2, 1]), node.X)


@vjp("DeformConv", wrt="offset")
def deform_offset(op, node, g):
    taps, entries = node.once(_taps), node.once(_entries)
    moved = op.Concat(*move(op, entries, taps, _masked(op, node, _rows_cotangent(op, node, g))), axis=2)
    by_tap = op.Reshape(moved, concat(op, op.const([0]), _kernel_size(op, node), op.const([-1, rank(node.X) - 2])))
    return op.reshape_like(op.Transpose(by_tap, perm=[0, 1, 3, 2]), node.offset)


@vjp("DeformConv", wrt="mask")
def deform_mask(op, node, g):
    along = op.Mul(node.once(_rows), _rows_cotangent(op, node, g))
    return op.reshape_like(op.ReduceSum(along, [2], keepdims=0), node.mask)


@vjp("DeformConv", wrt="W")
def deform_kernel(op, node, g):
    columns = op.Transpose(_masked(op, node, node.once(_rows)), perm=[0, 2, 1])
    group, size = op.const([node.attrs["group"]]), op.dim(op.Reshape(node.W, [0, -1]), 1)
    shape = concat(op, op.dim(node.X, 0), group, size, op.dim(_flat(op, g), 2))
    columns = op.Reshape(columns, shape, allowzero=1)
    product = op.MatMul(_grouped(op, node, g), op.Transpose(columns, perm=[0, 1, 3, 2]))
    return op.reshape_like(op.ReduceSum(product, [0], keepdims=0), node.W)


@vjp("DeformConv", wrt="B")
def deform_bias(op, node, g):
    return op.ReduceSum(g, [0, *range(2, rank(g))], keepdims=0)


# ----- Rows -----


def _rows_cotangent(op, node, g):
    """Return Wᵀ g, (B, rows, C)."""
    columns = op.Reshape(node.W, [0, -1])
    W = op.Reshape(columns, concat(op, op.const([node.attrs["group"], -1]), op.dim(columns, 1)))
    made = op.MatMul(op.Transpose(W, perm=[0, 2, 1]), _grouped(op, node, g))  # (N, groups, columns, places)
    channels = _channels(op, node)
    kernel, places = _kernel_size(op, node), op.dim(made, 3)
    made = op.Reshape(made, concat(op, _blocks(op, node), channels, kernel, places), allowzero=1)
    shape = concat(op, _blocks(op, node), _product(op, kernel, places), channels)
    return op.Reshape(op.Transpose(made, perm=[0, 2, 3, 1]), shape, allowzero=1)


def _rows(op, node):
    """Return what is read from X, before the mask, (B, rows, C)."""
    return weigh(op, node.once(_entries), node.once(_taps))


def _entries(op, node):
    return read(op, _array(op, node), node.once(_taps))


def _masked(op, node, rows):
    if node.mask is None:
        return rows
    return op.Mul(rows, op.Reshape(node.mask, concat(op, op.dim(_array(op, node), 0), op.const([-1, 1]))))


def _array(op, node):
    """Return X as (B, entries, C)."""
    shape = concat(op, _blocks(op, node), _channels(op, node), op.dim(_flat(op, node.X), 2))
    return places_first(op, op.Reshape(_flat(op, node.X), shape, allowzero=1))


def _grouped(op, node, g):
    """Return g as (N, groups, channels, places)."""
    flat = _flat(op, g)
    group = node.attrs["group"]
    shape = concat(op, op.dim(flat, 0), op.const([group]), _part(op, flat, group), op.dim(flat, 2))
    return op.Reshape(flat, shape, allowzero=1)


def _flat(op, value):
    return op.Reshape(value, [0, 0, -1])


def _blocks(op, node):
    """Return how many blocks of rows there are, int64 (1,)."""
    return _product(op, op.dim(node.X, 0), op.const([node.attrs["offset_group"]]))


def _product(op, a, b):
    """Return a product of sizes, int64 (1,): a constant where both are."""
    left, right = constant(a), constant(b)
    return op.Mul(a, b) if left is None or right is None else op.const(left * right)


def _channels(op, node):
    """Return how many channels move together, int64 (1,)."""
    return _part(op, node.X, node.attrs["offset_group"])


def _part(op, value, groups):
    """Return how many channels of a value a group has, int64 (1,)."""
    channels = dims(value)[1]
    return op.const([channels // groups]) if isinstance(channels, int) else op.Div(op.dim(value, 1), [groups])


def _kernel_size(op, node):
    """Return how many taps the kernel has, int64 (1,)."""
    kernel = spatial(node.W)
    return op.const([math.prod(kernel)]) if kernel is not None else op.ReduceProd(spatial_shape(op, node.W), keepdims=1)


# ----- Places -----


def _taps(op, node):
    """Return what each row reads, along every axis."""
    n, kernel = rank(node.X) - 2, spatial_shape(op, node.W)
    offset = op.Reshape(node.offset, concat(op, op.const([-1]), kernel, op.const([n]), spatial_shape(op, node.Y)))
    return [_taps_along(op, node, offset, axis) for axis in range(n)]


def _taps_along(op, node, offset, axis):
    """Tap at `place · stride - pad + tap · dilation + offset`."""
    n, attrs = rank(node.X) - 2, node.attrs
    stride, dilation, pad = (
        attrs.get(name, [default] * 2 * n)[axis] for name, default in (("strides", 1), ("dilations", 1), ("pads", 0))
    )
    taps = _progression(op, op.dim(node.W, axis + 2), dilation, -pad, offset.dtype)
    places = _progression(op, op.dim(node.Y, axis + 2), stride, 0, offset.dtype)
    place = op.Squeeze(op.Slice(offset, [axis], [axis + 1], [n + 1]), [n + 1])  # (B, *taps, *places)
    place = op.Add(place, op.Unsqueeze(taps, list(range(1, 2 * n - axis))))
    place = op.Add(place, op.Unsqueeze(places, list(range(1, n - axis))) if axis < n - 1 else places)
    return tap(op, op.Reshape(place, [0, -1, 1]), op.dim(node.X, axis + 2))


def _progression(op, count, step, start, dtype):
    """Return start, start + step, ...; `count` is int64 (1,)."""
    known = constant(count)
    if known is not None:
        return op.const(start + step * np.arange(known[0]), dtype)
    numbers = op.Range(0, op.Squeeze(count, [0]), 1)
    return op.cast(op.Add(op.Mul(numbers, op.const(step)), op.const(start)), dtype)
