"""Rules for poolings over the whole extent of a channel."""

import math

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.blocked import enter_blocks
from onnxsal.autodiff.rules.pool import lp_scale, lp_slope
from onnxsal.autodiff.rules.windows import concat, counting_type, spatial, spatial_shape


@vjp("GlobalAveragePool", wrt="X")
def global_average_pool(op, node, g):
    return spread_mean(op, node.X, g)


def spread_mean(op, X, g):
    """Give each entry of a channel of X its share of the cotangent of their mean, (N, C, 1, ...)."""
    # Times an array of shares, not expanded: Expand takes two and a half times as long (1280 channels of 7x7).
    return enter_blocks(op, op.Mul(g, _shares(op, X, g)))


def _shares(op, X, g):
    """Return 1 / the number of entries, as often as there are entries, (1, 1, ...)."""
    sizes = spatial(X)
    if sizes is not None:
        return op.const(np.full((1, 1, *sizes), 1 / math.prod(sizes)), g.dtype)
    count = op.cast(op.ReduceProd(op.Shape(X, start=2), keepdims=0), counting_type(g))
    return op.Expand(op.cast(op.Reciprocal(count), g.dtype), concat(op, op.const([1, 1]), spatial_shape(op, X)))


@vjp("GlobalMaxPool", wrt="X")
def global_max_pool(op, node, g):
    # The first of the largest takes all, as in PyTorch's adaptive_max_pool.
    X = op.Reshape(node.X, [0, 0, -1])
    first = op.ArgMax(X, axis=2, keepdims=1)
    places = op.Range(0, op.Squeeze(op.Shape(X, start=2), [0]), 1)
    mask = op.cast(op.Equal(places, first), g.dtype)
    return op.reshape_like(op.Mul(op.Reshape(g, [0, 0, 1]), mask), node.X)


@vjp("GlobalLpPool", wrt="X")
def global_lp_pool(op, node, g):
    p = node.attrs["p"]
    return op.Mul(lp_scale(op, node, g, p), lp_slope(op, node.X, p))
