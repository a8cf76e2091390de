"""Undo broadcasting: sum a cotangent over the axes along which its primal was repeated."""

import onnx_ir as ir

from onnxsal.graph.builder import Op, rank
from onnxsal.graph.types import dims, same_dim, same_shape

# Operators that repeat an input to fit the others, or a shape. Elsewhere a cotangent has its
# primal's shape by construction, also where the shape is known at run time only.
BROADCASTING = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "Max",
        "Min",
        "Mean",
        "Sum",
        "Where",
        "PRelu",
        "MatMul",
        "Gemm",
        "Expand",
    }
    | {"Clip", "Dropout", "LayerNormalization", "RMSNormalization", "And", "Or", "Xor"}
)


def unbroadcast(op: Op, g: ir.Value, primal: ir.Value, op_type: str) -> ir.Value:
    """Return `g` summed to the shape of `primal`."""
    if op_type not in BROADCASTING or same_shape(g, primal):
        return g
    if dims(g) is None or dims(primal) is None:
        return _sum_unknown(op, g, primal)
    extra = rank(g) - rank(primal)
    axes = [*range(extra), *_repeated(g, primal, extra)]
    if axes:
        g = op.ReduceSum(g, axes=axes, keepdims=1)
    if any(_unsure(g, primal, extra)):
        g = _sum_ones(op, g, primal, extra)
        if not extra:
            g.shape = primal.shape
    return op.reshape_like(g, primal) if extra else g


def _repeated(g: ir.Value, primal: ir.Value, extra: int) -> list[int]:
    """Return the axes of `g` where the primal surely has one entry, and `g` perhaps more."""
    inner, outer = dims(primal) or (), dims(g) or ()
    return [i + extra for i, d in enumerate(inner) if d == 1 and outer[i + extra] != 1]


def _unsure(g: ir.Value, primal: ir.Value, extra: int) -> list[bool]:
    """Tell, axis by axis, whether only the run can say if the primal was repeated."""
    inner, outer = dims(primal) or (), dims(g) or ()
    return [not isinstance(d, int) and not same_dim(d, outer[i + extra]) for i, d in enumerate(inner)]


def _sum_ones(op: Op, g: ir.Value, primal: ir.Value, extra: int) -> ir.Value:
    """Sum over the axes that turn out, at run time, to have one entry in the primal."""
    shape = op.Shape(primal)
    if extra:
        shape = op.Concat(op.const([1] * extra), shape, axis=0)
    return _sum_where_one(op, g, shape)


def _sum_unknown(op: Op, g: ir.Value, primal: ir.Value) -> ir.Value:
    """Sum to a shape where not even the number of axes is known before the run."""
    shape = op.Shape(primal)
    extra = op.Sub(op.Shape(op.Shape(g)), op.Shape(shape))
    g = _sum_where_one(op, g, op.Concat(op.Expand([1], extra), shape, axis=0))
    return op.Reshape(g, shape, allowzero=1)


def _sum_where_one(op: Op, g: ir.Value, shape: ir.Value) -> ir.Value:
    axes = op.Squeeze(op.NonZero(op.Equal(shape, op.const([1]))), axes=[0])
    # On no axes at all ReduceSum would sum over everything.
    return op.ReduceSum(g, axes, keepdims=1, noop_with_empty_axes=1)
