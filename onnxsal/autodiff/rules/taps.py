"""Read an array between its entries, and write there.

Each place weighs a few entries along each axis, its taps, by how far it lies behind its floor. What lies
outside is dealt with tap by tap, as ONNX Runtime and PyTorch do. Arrays come as (N, entries, C), the
spatial axes in one; places as (N, P, 1) per axis, in entries.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.types import dims

CUBIC = -0.75  # the free parameter of Keys' kernel, in ONNX Runtime and PyTorch alike
OFFSETS = {"nearest": [0], "linear": [0, 1], "cubic": [-1, 0, 1, 2]}


@dataclass(frozen=True)
class Taps:
    """The taps of each place along one axis, all (N, P, taps).

    Attributes:
        index: Which entries they read, int64; inside the array also where the weight is 0.
        weight: What they count.
        slope: The derivatives of the weights by the place.
        size: How many entries there are, int64 (1,).
    """

    index: ir.Value
    weight: ir.Value
    slope: ir.Value
    size: ir.Value


def tap(op, place, size, *, mode="linear", padding="zeros", align_corners=1):
    """Return the taps of places (N, P, 1) along an axis with `size` entries."""
    floor = op.Round(place) if mode == "nearest" else op.Floor(place)
    index = op.Add(op.Cast(floor, to=ir.DataType.INT64), op.const(OFFSETS[mode]))
    weight, slope = _weights(op, mode, op.Sub(place, floor))
    if padding == "zeros":
        inside = op.cast(op.And(op.GreaterOrEqual(index, op.const([0])), op.Less(index, size)), place.dtype)
        weight, slope = op.Mul(weight, inside), op.Mul(slope, inside)
        return Taps(_clipped(op, index, size), weight, slope, size)
    index = _clipped(op, index, size) if padding == "border" else _reflected(op, index, size, align_corners)
    if mode == "linear":
        slope = op.Where(_at_the_rim(op, place, floor, index, size), op.scalar(0, like=slope), slope)
    return Taps(index, weight, slope, size)


def read(op, array, taps):
    """Return the entries at all combinations of taps, (N, P, combinations, C)."""
    return op.Gather(_rows(op, array), _row_numbers(op, array, taps))


def weigh(op, entries, taps):
    """Return the value at each place, (N, P, C)."""
    weight = _outer(op, "Mul", [t.weight for t in taps])
    return op.ReduceSum(op.Mul(entries, op.Unsqueeze(weight, [-1])), [2], keepdims=0)


def spread(op, array, taps, g):
    """Return the cotangent of `array`, given that of the values at the places, (N, P, C)."""
    if op.runtime.spellings:  # a scatter would compare every tap with every entry
        return _spread_by_product(op, array, taps, g)
    weight = _outer(op, "Mul", [t.weight for t in taps])
    updates = op.Mul(op.Unsqueeze(weight, [-1]), op.Unsqueeze(g, [2]))
    zeros = op.Expand(op.scalar(0, like=g), op.Shape(_rows(op, array)))
    numbers = op.Reshape(_row_numbers(op, array, taps), [-1, 1])
    found = scatter(op, op.ScatterND, zeros, numbers, _rows(op, updates), reduction="add")
    return op.Reshape(found, op.Shape(array))


def _spread_by_product(op, array, taps, g):
    """Contract g with what each place reads along each axis: a matrix (N, P, size) per axis."""
    matrices = [_reads(op, tap, g.dtype) for tap in taps]
    channels, last = dims(g)[-1], dims(matrices[-1])[-1]
    if isinstance(channels, int) and isinstance(last, int) and channels > last:
        return op.MatMul(op.Transpose(_outer(op, "Mul", matrices), perm=[0, 2, 1]), g)
    wide = _outer(op, "Mul", [g, *matrices[:-1]])
    made = op.MatMul(op.Transpose(wide, perm=[0, 2, 1]), matrices[-1])
    made = op.Reshape(made, concat(op, op.const([0]), op.dim(array, 2), op.const([-1])))
    return op.Transpose(made, perm=[0, 2, 1])


def _reads(op, tap, dtype):
    entries = op.Range(0, op.Squeeze(tap.size, [0]), 1)
    reads = op.cast(op.Equal(op.Unsqueeze(tap.index, [3]), entries), dtype)
    return op.ReduceSum(op.Mul(reads, op.Unsqueeze(tap.weight, [3])), [2], keepdims=0)


def move(op, entries, taps, g):
    """Return the cotangents of the places along each axis, (N, P, 1) each, given that of the values there."""
    change = op.ReduceSum(op.Mul(entries, op.Unsqueeze(g, [2])), [-1], keepdims=0)
    slopes = (_outer(op, "Mul", [t.slope if t is tap else t.weight for t in taps]) for tap in taps)
    return [op.ReduceSum(op.Mul(change, slope), [-1]) for slope in slopes]


def places_first(op, value):
    """Return (N, C, ...) as (N, entries, C)."""
    return op.Transpose(op.Reshape(value, [0, 0, -1]), perm=[0, 2, 1])


def _rows(op, value):
    """Return (..., C) as (rows, C)."""
    return op.Reshape(value, concat(op, op.const([-1]), op.dim(value, -1)))


def _row_numbers(op, array, taps):
    """Return which row of `array` each combination of taps reads, (N, P, combinations)."""
    index = taps[0].index
    for tap in taps[1:]:
        index = _outer(op, "Add", [op.Mul(index, tap.size), tap.index])
    samples = op.Range(0, op.Squeeze(op.dim(array, 0), [0]), 1)
    first = op.Mul(op.Unsqueeze(samples, [1, 2]), op.dim(array, 1))
    return op.Add(index, first)


def _outer(op, operator, values):
    """Combine (N, P, a), (N, P, b), ... to (N, P, a * b * ...)."""

    def pair(a, b):
        return op.Reshape(op.emit(operator, op.Unsqueeze(a, [3]), op.Unsqueeze(b, [2])), [0, 0, -1])

    return reduce(pair, values)


# ----- Weights -----


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


# ----- The outside -----


def _clipped(op, index, size):
    return op.Min(op.Max(index, op.const([0])), op.Sub(size, [1]))


def _reflected(op, index, size, align_corners):
    """Fold indices back about the outermost centres, or about the outer edges."""
    last = op.Sub(size, [1])
    if align_corners:  # there and back again
        period = op.Max(op.Mul(last, [2]), op.const([1]))
        index = op.Mod(op.Abs(index), period)
        return op.Min(index, op.Sub(period, index))
    period = op.Mul(size, [2])  # -1 is 0 again
    index = op.Mod(op.Max(index, op.Sub(op.const([-1]), index)), period)
    return op.Min(index, op.Sub(op.Sub(period, [1]), index))


def _at_the_rim(op, place, floor, index, size):
    """Tell which places lie on the first or last entry exactly: there is a kink, and PyTorch's slope is 0."""
    first = op.Slice(index, [0], [1], [2])
    rim = op.Or(op.Equal(first, op.const([0])), op.Equal(first, op.Sub(size, [1])))
    return op.And(op.Equal(place, floor), rim)
