"""Rules for poolings that sum over windows: AveragePool, LpPool.

The adjoint of a sum over windows gives each entry the sum of its windows' cotangents: repeating them where
windows lie side by side, AveragePool again at stride 1, else ConvTranspose.
"""

import math

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.windows import (
    concat,
    dilations,
    fit_spatially,
    pad_spatially,
    padding,
    reach,
    repeat,
    spatial,
    spatial_shape,
    unread,
)

# ----- AveragePool -----


@vjp("AveragePool", wrt="X")
def average_pool(op, node, g):
    size = math.prod(node.attrs["kernel_shape"])
    if not _counts_alike(node):
        for axis in range(len(node.attrs["strides"])):
            g = op.Div(g, op.cast(_count(op, node, axis), g.dtype))
        return _spread(op, node, g, 1.0)
    return _spread(op, node, g, 1.0 / size)


def _counts_alike(node):
    """Tell whether every window divides by the size of the kernel."""
    attrs = node.attrs
    no_pads = "pads" in attrs and not any(attrs["pads"])
    if not attrs["count_include_pad"] and not no_pads:
        return False
    return _within(node)


def _within(node):
    """Tell whether no window reaches beyond the padding, as `ceil_mode` lets it.

    ONNX Runtime lets a single window do so anyway.
    """
    X, Y = spatial(node.X), spatial(node.Y)
    if X is None or Y is None or "pads" not in node.attrs:
        return not node.attrs["ceil_mode"] or all(s == 1 for s in node.attrs["strides"])
    return min(unread(X, Y, reach(node), node.attrs["strides"], node.attrs["pads"])) >= 0


def _count(op, node, axis):
    """Return what each window counts along one axis, int64 (Y's size, 1, ...), to divide by.

    Not AveragePool of ones: where `ceil_mode` lets a window reach beyond the padding, what lies there is
    never counted.
    """
    n, attrs = len(node.attrs["strides"]), node.attrs
    begin, end = (_entry(op, p, axis) for p in padding(op, node))
    X, Y = (_entry(op, spatial_shape(op, v), axis) for v in (node.X, node.Y))
    starts = op.Sub(op.Mul(op.Range(0, op.Squeeze(Y, [0]), 1), [attrs["strides"][axis]]), begin)
    taps = np.arange(attrs["kernel_shape"][axis]) * dilations(node)[axis]
    places = op.Add(op.Unsqueeze(starts, [1]), op.const(taps))
    low, high = (op.Neg(begin), op.Add(X, end)) if attrs["count_include_pad"] else (op.const([0]), X)
    inside = op.And(op.GreaterOrEqual(places, low), op.Less(places, high))
    count = op.ReduceSum(op.Cast(inside, to=7), [1], keepdims=0)
    return op.Unsqueeze(count, list(range(1, n - axis)))


def _entry(op, vector, index):
    return op.Slice(vector, [index], [index + 1], [0])


# ----- LpPool -----


@vjp("LpPool", wrt="X")
def lp_pool(op, node, g):
    p = node.attrs["p"]
    return op.Mul(_spread(op, node, lp_scale(op, node, g, p), 1.0), lp_slope(op, node.X, p))


def lp_scale(op, node, g, p):
    """Return g · Y^(1-p), g where Y is 0: the slope at X is 0 there."""
    if p == 1:
        return g
    one = op.scalar(1, like=node.Y)
    Y = op.Where(op.Equal(node.Y, op.scalar(0, like=node.Y)), one, node.Y)
    return op.Div(g, Y if p == 2 else op.Pow(Y, op.scalar(p - 1, like=Y)))


def lp_slope(op, X, p):
    """Return sign(X) · |X|^(p-1)."""
    if p == 1:
        return op.Sign(X)
    return X if p == 2 else op.Mul(op.Sign(X), op.Pow(op.Abs(X), op.scalar(p - 1, like=X)))


# ----- The adjoint of a sum over windows -----


def _spread(op, node, g, weight):
    """Give each entry of X the sum of its windows' g, times `weight`."""
    attrs, n = node.attrs, len(node.attrs["strides"])
    if _tiles(node):
        return _pad_from_tiles(op, node, repeat(op, _scaled(op, g, weight), attrs["strides"]))
    pads = None if "pads" not in attrs else [r - 1 - p for r, p in zip(reach(node) * 2, attrs["pads"], strict=True)]
    same_stride = all(s == 1 for s in attrs["strides"]) and all(d == 1 for d in dilations(node))
    if pads is not None and same_stride:
        geometry = {"kernel_shape": attrs["kernel_shape"], "strides": [1] * n, "pads": pads, "count_include_pad": 1}
        return _scaled(op, op.AveragePool(g, **geometry), weight * math.prod(attrs["kernel_shape"]))
    return _spread_by_convolution(op, node, g, weight)


def _spread_by_convolution(op, node, g, weight):
    """Spread with ConvTranspose, a channel at a time."""
    attrs, n = node.attrs, len(node.attrs["strides"])
    X, Y = spatial(node.X), spatial(node.Y)
    known = "pads" in attrs and X is not None and Y is not None
    if known:
        extra = unread(X, Y, reach(node), attrs["strides"], attrs["pads"])
        beyond = [-min(e, 0) for e in extra]
        pads = np.add(attrs["pads"], [0] * n + beyond).tolist()
    else:
        extra, pads = [s - 1 for s in attrs["strides"]], [0] * (2 * n)
    made = op.ConvTranspose(
        op.Reshape(g, concat(op, op.const([-1, 1]), spatial_shape(op, g))),
        op.const(np.full((1, 1, *attrs["kernel_shape"]), weight), g.dtype),
        kernel_shape=attrs["kernel_shape"],
        strides=attrs["strides"],
        dilations=dilations(node),
        group=1,
        pads=pads,
        output_padding=[max(e, 0) for e in extra],
    )
    if not known:
        made = fit_spatially(op, node, made, padding(op, node)[0], spatial_shape(op, node.X))
    return op.reshape_like(made, node.X)


def _tiles(node):
    """Tell whether the windows lie side by side and within X, so that an entry belongs to one at most."""
    attrs = node.attrs
    kernel, X, Y = attrs["kernel_shape"], spatial(node.X), spatial(node.Y)
    if list(attrs["strides"]) != list(kernel) or any(d != 1 for d in dilations(node)) or any(attrs.get("pads", [1])):
        return False
    if not attrs.get("ceil_mode"):
        return True
    return X is not None and Y is not None and all(y * k <= x for x, y, k in zip(X, Y, kernel, strict=True))


def _pad_from_tiles(op, node, value):
    """Put zeros where no window reads X."""
    X, Y, strides = spatial(node.X), spatial(node.Y), node.attrs["strides"]
    if X is not None and Y is not None:
        rest = op.const(np.subtract(X, np.multiply(Y, strides)))
    else:
        rest = op.Sub(spatial_shape(op, node.X), op.Mul(spatial_shape(op, node.Y), strides))
    return pad_spatially(op, value, op.const([0] * len(strides)), rest)


def _scaled(op, value, factor):
    return value if factor == 1 else op.Mul(value, op.scalar(factor, like=value))
