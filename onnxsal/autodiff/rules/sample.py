"""Rules for sampling at computed places: GridSample, AffineGrid.

GridSample weighs a few taps along each axis, by how far the place lies behind its floor. What lies outside
X is dealt with tap by tap, as ONNX Runtime and PyTorch do. X gets the weights back, the grid their slopes.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.builder import rank

CUBIC = -0.75  # the free parameter of Keys' kernel, in ONNX Runtime and PyTorch alike
OFFSETS = {"nearest": [0], "linear": [0, 1], "cubic": [-1, 0, 1, 2]}


@vjp("GridSample", wrt="X")
def grid_sample_data(op, node, g):
    taps = _all_taps(op, node)
    weight = _outer(op, "Mul", [t.weight for t in taps])
    updates = op.Mul(op.Unsqueeze(weight, [-1]), op.Unsqueeze(_places_first(op, g), [2]))
    X = _places_first(op, node.X)
    zeros = op.Expand(op.scalar(0, like=g), op.Shape(_rows(op, X)))
    numbers = op.Reshape(_row_numbers(op, X, taps), [-1, 1])
    found = scatter(op, op.ScatterND, zeros, numbers, _rows(op, updates), reduction="add")
    found = op.Transpose(op.Reshape(found, op.Shape(X)), perm=[0, 2, 1])
    return op.reshape_like(found, node.X)


@vjp("GridSample", wrt="grid")
def grid_sample_grid(op, node, g):
    if node.attrs["mode"] == "nearest":
        return None  # the places are rounded
    taps = _all_taps(op, node)
    X = _places_first(op, node.X)
    entries = op.Gather(_rows(op, X), _row_numbers(op, X, taps))
    change = op.ReduceSum(op.Mul(entries, op.Unsqueeze(_places_first(op, g), [2])), [-1], keepdims=0)
    parts = []
    for axis, tap in enumerate(taps):
        slope = _outer(op, "Mul", [t.slope if t is tap else t.weight for t in taps])
        parts.append(op.Mul(op.ReduceSum(op.Mul(change, slope), [-1]), _entries_per_unit(op, node, axis, g.dtype)))
    # The grid names the last axis first.
    return op.reshape_like(op.Concat(*reversed(parts), axis=-1), node.grid)


@dataclass(frozen=True)
class Taps:
    """The taps of each place along one axis, all (N, P, taps) for P places per sample.

    Attributes:
        index: Which entries of X, int64; inside X also where the weight is 0.
        weight: What they count.
        slope: The derivatives of the weights by the place, in entries of X.
        size: The extent of X, int64 (1,).
    """

    index: ir.Value
    weight: ir.Value
    slope: ir.Value
    size: ir.Value


def _all_taps(op, node):
    """Return the taps along every axis."""
    n = rank(node.X) - 2
    grid = op.Reshape(node.grid, [0, -1, n])
    return [_taps(op, node, grid, axis) for axis in range(n)]


def _taps(op, node, grid, axis):
    size = op.dim(node.X, axis + 2)
    at = rank(node.X) - 3 - axis
    place = _denormalised(op, node, op.Slice(grid, [at], [at + 1], [2]), size)
    mode = node.attrs["mode"]
    floor = op.Round(place) if mode == "nearest" else op.Floor(place)
    index = op.Add(op.Cast(floor, to=ir.DataType.INT64), op.const(OFFSETS[mode]))
    weight, slope = _weights(op, mode, op.Sub(place, floor))
    if node.attrs["padding_mode"] == "zeros":
        inside = op.cast(op.And(op.GreaterOrEqual(index, op.const([0])), op.Less(index, size)), place.dtype)
        weight, slope = op.Mul(weight, inside), op.Mul(slope, inside)
    return Taps(_inside(op, node, index, size), weight, slope, size)


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


def _weights(op, mode, t):
    """Return the taps' weights and slopes at t in [0, 1) behind the floor."""
    if mode == "nearest":
        return op.Add(op.Sub(t, t), op.scalar(1, like=t)), op.Sub(t, t)
    if mode == "linear":
        rising = op.Mul(t, op.const([-1, 1], t.dtype))
        return op.Add(rising, op.const([1, 0], t.dtype)), op.Add(op.Sub(t, t), op.const([-1, 1], t.dtype))
    polynomials = _cubic_polynomials()
    powers = op.Concat(op.Mul(op.Mul(t, t), t), op.Mul(t, t), t, op.Add(op.Sub(t, t), op.scalar(1, like=t)), axis=-1)
    slopes = np.array([np.polyder(p) for p in polynomials])
    weight = op.MatMul(powers, op.const(np.array(polynomials).T, t.dtype))
    return weight, op.MatMul(op.Slice(powers, [1], [4], [2]), op.const(slopes.T, t.dtype))


def _cubic_polynomials():
    """Return the weights of the four taps as cubic polynomials of t, highest power first."""
    a = CUBIC
    near, far = np.poly1d([a + 2, -(a + 3), 0, 1]), np.poly1d([a, -5 * a, 8 * a, -4 * a])
    t = np.poly1d([1, 0])
    weights = far(t + 1), near(t), near(1 - t), far(2 - t)
    return [np.pad(w.coeffs, (4 - len(w.coeffs), 0)) for w in weights]


def _inside(op, node, index, size):
    """Return where in X a tap reads that may lie outside."""
    last = op.Sub(size, [1])
    if node.attrs["padding_mode"] != "reflection":
        return op.Min(op.Max(index, op.const([0])), last)
    if node.attrs["align_corners"]:  # there and back again about the outermost centres
        period = op.Max(op.Mul(last, [2]), op.const([1]))
        index = op.Mod(op.Abs(index), period)
        return op.Min(index, op.Sub(period, index))
    period = op.Mul(size, [2])  # about the outer edges: -1 is 0 again
    index = op.Mod(op.Max(index, op.Sub(op.const([-1]), index)), period)
    return op.Min(index, op.Sub(op.Sub(period, [1]), index))


def _places_first(op, value):
    """Return (N, C, ...) as (N, places, C)."""
    return op.Transpose(op.Reshape(value, [0, 0, -1]), perm=[0, 2, 1])


def _rows(op, value):
    """Return (..., C) as (rows, C)."""
    return op.Reshape(value, concat(op, op.const([-1]), op.dim(value, -1)))


def _row_numbers(op, X, taps):
    """Return which row of X each combination of taps reads, (N, P, combinations)."""
    index = taps[0].index
    for tap in taps[1:]:
        index = _outer(op, "Add", [op.Mul(index, tap.size), tap.index])
    samples = op.Range(0, op.Squeeze(op.dim(X, 0), [0]), 1)
    first = op.Mul(op.Unsqueeze(samples, [1, 2]), op.dim(X, 1))
    return op.Add(index, first)


def _outer(op, operator, values):
    """Combine (N, P, a), (N, P, b), ... to (N, P, a * b * ...)."""

    def pair(a, b):
        return op.Reshape(op.emit(operator, op.Unsqueeze(a, [3]), op.Unsqueeze(b, [2])), [0, 0, -1])

    return reduce(pair, values)


@vjp("AffineGrid", wrt="theta")
def affine_grid(op, node, g):
    """Contract g with the places where the identity puts the grid, and 1 behind them."""
    n = rank(node.grid) - 2
    size = op.Concat(op.const([1]), op.Slice(node.size, [1], [n + 2], [0]), axis=0)
    identity = op.const(np.eye(n, n + 1)[None], g.dtype)
    places = op.Reshape(op.AffineGrid(identity, size, align_corners=node.attrs["align_corners"]), [-1, n])
    places = op.Pad(places, [0, 0, 0, 1], op.scalar(1, like=g))
    return op.MatMul(op.Transpose(op.Reshape(g, [0, -1, n]), perm=[0, 2, 1]), places)
