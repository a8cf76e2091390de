"""Rules for quantisation: straight through, within the range.

Rounding is passed as if it were not there; what the range clips off gets nothing. A cotangent of
integers is one of the real numbers that they stand for, so neither way is there anything to multiply.

What is clipped is read off the integers, as it is for Relu and Clip off their outputs: strictly within
the type's limits nothing was, and at a limit the derivative is 0, as it is at Clip's bounds. The
integers are all that the QLinear operators show, so that QDQ and QOperator files of one network have one gradient.
Two cases are decided better:

- A limit that the operand cannot pass (an average's, of numbers of the same range) clips nothing.
- Where the network begins, black and white lie on the limits without being clipped. There the operand is
  at hand, and what it rounds to is compared with the limits: at them gradients pass.

Where the range begins at zero and the operand does not, quantisation has swallowed a ReLU.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.masks import above, below
from onnxsal.errors import UnsupportedModel
from onnxsal.graph.builder import rank
from onnxsal.graph.quantisation import same_numbers
from onnxsal.graph.ranges import bounds, limits
from onnxsal.graph.types import constant

BYTES = frozenset({ir.DataType.UINT8, ir.DataType.INT8})


@vjp("QuantizeLinear", wrt="x")
def quantize(op, node, g):
    low, high = (False, False) if node.is_spared else passable(node)
    if (low or high) and is_entry(node) and node.quantisation("y").is_uniform:
        g = op.Mul(g, _rounds_within(op, node))
    elif low or high:
        g = op.Mul(g, _strictly_within(op, node.raw("y"), low, high))
    return op.cast(g, node.gradient_type("x"))


@vjp("DequantizeLinear", wrt="x")
def dequantize(op, node, g):
    """Pass g on, in steps of whoever made x: scales differ where x is read by another one than it was made by."""
    g, made = op.cast(g, ir.DataType.FLOAT), node.quantisation("x")
    if made is None or same_numbers(made.scale, node.raw("x_scale")):
        return g
    g = op.Mul(g, _along_axis(op, node, g))
    return g if made.scale is None else op.Div(g, op.cast(made.scale, g.dtype))


@vjp("DequantizeLinear", wrt="x_scale")
def dequantize_scale(op, node, g):
    """Sum g * (x - x_zero_point) over what one scale is for: all, one entry of an axis, or a block of it.

    That is for weights and inputs: of numbers that were quantised along the way another scale makes other
    roundings, not other numbers.
    """
    if node.raw("x").producer() is not None:
        return None
    x_scale = node.raw("x_scale")
    ones = op.Expand(op.scalar(1, like=x_scale), op.shape(x_scale))
    attrs = {k: node.attrs.get(k) for k in ("axis", "block_size")}
    each = op.Mul(g, op.cast(op.DequantizeLinear(node.raw("x"), ones, node.raw("x_zero_point"), **attrs), g.dtype))
    n, axis, block = rank(each), node.attrs["axis"], node.attrs.get("block_size", 0)
    if not block:
        kept = [axis % n] if rank(x_scale) else []
        return op.ReduceSum(each, [a for a in range(n) if a not in kept], keepdims=0)
    last = op.Sub(op.Mul(op.dim(x_scale, axis), [block]), op.dim(each, axis))  # what the last block is short of
    whole = op.Pad(each, op.Concat([0], last, axis=0), op.scalar(0, like=g), [axis])
    shape = op.shape(x_scale)
    parts = [op.Slice(shape, [0], [axis % n + 1]), op.const([block]), op.Slice(shape, [axis % n + 1], [n])]
    return op.ReduceSum(op.Reshape(whole, op.Concat(*parts, axis=0)), [axis % n + 1], keepdims=0)


@vjp("DynamicQuantizeLinear", wrt="x")
def dynamic_quantize(op, node, g):
    # The range is x's own, which clips nothing.
    return g


# What a scale changes here is how numbers are rounded and clipped.
declare_zero("QuantizeLinear", "y_scale")


def in_steps(op, node, g, formal):
    """Return the cotangent of an input's real numbers, given that of its integers themselves."""
    q = node.quantisation(formal)
    return g if q is None or q.scale is None else op.Div(g, op.cast(q.scale, g.dtype))


def _along_axis(op, node, g):
    """Return the scale by which x is read, in a shape that broadcasts over g."""
    scale = op.cast(node.raw("x_scale"), g.dtype)
    if all(d == 1 for d in scale.shape):
        return scale
    if node.attrs.get("block_size"):
        raise UnsupportedModel(f"node {node.name!r} reads blocks by other scales than they were quantised by")
    shape = [1] * rank(g)
    shape[node.attrs["axis"]] = -1
    return op.Reshape(scale, shape)


# ----- What is clipped -----


def is_folded_relu(node):
    """Tell whether a QuantizeLinear is also a ReLU: its range begins at 0, its operand below, and not at the image."""
    zero_point = node.raw("y_zero_point")
    smallest, _ = limits(node.raw("y").dtype)
    at = np.zeros(1) if zero_point is None else constant(zero_point)
    if at is None or not np.all(np.asarray(at, np.float32) == smallest):
        return False
    return passable(node)[0] and not is_entry(node)


def passable(node):
    """Tell whether the operand can lie below the range, and whether above."""
    q, y = node.quantisation("y"), node.raw("y")
    scale, zero_point = constant(q.scale), constant(q.zero_point)
    if scale is None or scale.size != 1 or (zero_point is None and q.zero_point is not None):
        return True, True
    least, most = bounds(node.raw("x"))
    at = 0.0 if zero_point is None else float(np.asarray(zero_point, np.float32).item())
    smallest, largest = ((limit - at) * float(scale.item()) for limit in limits(y.dtype))
    half = abs(float(scale.item())) / 2
    return least < smallest - half, most > largest + half


def is_entry(node):
    """Tell whether nothing before a QuantizeLinear has been quantised: the image enters the network here."""
    seen, stack = set(), [node.raw("x")]
    while stack:
        before = stack.pop().producer()
        if before is None or before in seen:
            continue
        seen.add(before)
        values = [v for v in before.inputs if v is not None and v.const_value is None]
        if values and any(word in before.op_type.lower() for word in ("quantize", "qlinear", "qgemm", "integer")):
            return False
        stack += values
    return True


def _strictly_within(op, y, low, high):
    """Return 1 where y lies off those of its type's limits that are asked for, else 0, as float32."""
    smallest, largest = limits(y.dtype)
    if y.dtype in BYTES:
        # Three passes over bytes, and one that writes floats: a third less time than comparing floats.
        bound = [
            op.const(int(b), y.dtype) if asked else None for b, asked in ((smallest + 1, low), (largest - 1, high))
        ]
        return op.cast(op.Equal(op.Clip(y, *bound), y), ir.DataType.FLOAT)
    numbers = op.cast(y, ir.DataType.FLOAT)
    masks = [above(op, numbers, smallest)] * low + [below(op, numbers, largest)] * high
    return masks[0] if len(masks) == 1 else op.Mul(*masks)


def _rounds_within(op, node):
    """Return 1 where x / scale + zero point rounds to a number that the type has, else 0."""
    x, q = op.cast(node.x, ir.DataType.FLOAT), node.quantisation("y")
    smallest, largest = limits(node.raw("y").dtype)
    steps = op.Div(x, op.cast(q.scale, x.dtype))
    if node.raw("y").dtype.is_integer():
        steps = op.Round(steps)
    if q.zero_point is not None:
        steps = op.Add(steps, op.cast(q.zero_point, x.dtype))
    return op.cast(op.Equal(op.Clip(steps, float(smallest), float(largest)), steps), x.dtype)
