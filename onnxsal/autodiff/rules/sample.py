"""Rules for sampling at computed places: GridSample, AffineGrid.

X gets the weights of its taps back, the grid their slopes.
"""

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.taps import move, places_first, read, spread, tap
from onnxsal.graph.builder import rank


@vjp("GridSample", wrt="X")
def grid_sample_data(op, node, g):
    found = spread(op, places_first(op, node.X), _all_taps(op, node), places_first(op, g))
    return op.reshape_like(op.Transpose(found, perm=[0, 2, 1]), node.X)


@vjp("GridSample", wrt="grid")
def grid_sample_grid(op, node, g):
    if node.attrs["mode"] == "nearest":
        return None  # the places are rounded
    taps = _all_taps(op, node)
    moved = move(op, read(op, places_first(op, node.X), taps), taps, places_first(op, g))
    parts = [op.Mul(part, _entries_per_unit(op, node, axis, g.dtype)) for axis, part in enumerate(moved)]
    # The grid names the last axis first.
    return op.reshape_like(op.Concat(*reversed(parts), axis=-1), node.grid)


def _all_taps(op, node):
    """Return the taps along every axis."""
    n = rank(node.X) - 2
    grid = op.Reshape(node.grid, [0, -1, n])
    return [_taps(op, node, grid, axis) for axis in range(n)]


def _taps(op, node, grid, axis):
    size, attrs = op.dim(node.X, axis + 2), node.attrs
    at = rank(node.X) - 3 - axis
    place = _denormalised(op, node, op.Slice(grid, [at], [at + 1], [2]), size)
    return tap(op, place, size, mode=attrs["mode"], padding=attrs["padding_mode"], align_corners=attrs["align_corners"])


def _denormalised(op, node, place, size):
    """Turn [-1, 1] into entries of X: -1 and 1 are the centres of the outermost, or their outer edges."""
    half = op.Div(op.cast(size, place.dtype), op.scalar(2, like=place))
    one = op.scalar(1, like=place)
    if node.attrs["align_corners"]:
        return op.Mul(op.Add(place, one), op.Sub(half, op.scalar(0.5, like=place)))
    return op.Sub(op.Mul(op.Add(place, one), half), op.scalar(0.5, like=place))


def _entries_per_unit(op, node, axis, dtype):
    """Return the derivative of `_denormalised`."""
    size = op.cast(op.dim(node.X, axis + 2), dtype)
    if node.attrs["align_corners"]:
        size = op.Sub(size, op.const(1, dtype))
    return op.Div(size, op.const(2, dtype))


@vjp("AffineGrid", wrt="theta")
def affine_grid(op, node, g):
    """Contract g with the places where the identity puts the grid, and 1 behind them."""
    n = rank(node.grid) - 2
    size = op.Concat(op.const([1]), op.Slice(node.size, [1], [n + 2], [0]), axis=0)
    identity = op.const(np.eye(n, n + 1)[None], g.dtype)
    places = op.Reshape(op.AffineGrid(identity, size, align_corners=node.attrs["align_corners"]), [-1, n])
    places = op.Pad(places, [0, 0, 0, 1], op.scalar(1, like=g))
    return op.MatMul(op.Transpose(op.Reshape(g, [0, -1, n]), perm=[0, 2, 1]), places)
