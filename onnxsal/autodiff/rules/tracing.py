"""Index tracing: an operator that only moves elements says itself where each comes from.

It is run a second time on the numbers 1 to N in place of its N elements. What comes out says, for
each element of the output, which one it was; zero is what the operator put there itself. The
cotangents are added up accordingly.
"""

import math

import onnx_ir as ir

from onnxsal.graph.types import HALVES, static_shape


def trace(op, data, g, move, *, unique=False):
    """Return the cotangent of `data`, given that of `move(data)`.

    Args:
        op: The builder.
        data: What is moved.
        g: Cotangent of what comes out.
        move: Emits the operator for another input, of type int64.
        unique: No element appears twice, and none is made up: a plain Scatter will do.
    """
    known = static_shape(data)
    count = op.Size(data) if known is None else op.const(math.prod(known))
    first = 0 if unique else 1
    numbers = op.Range(first, op.Add(count, first) if first else count, 1)
    where = op.Reshape(move(op.Reshape(numbers, op.shape(data), allowzero=1)), [-1])
    slots = op.Reshape(op.Add(count, first) if first else count, [1])
    total = op.Expand(op.scalar(0, like=g), slots)
    total = scatter(op, op.ScatterElements, total, where, op.Reshape(g, [-1]), reduction="none" if unique else "add")
    return op.reshape_like(total if unique else op.Slice(total, [1], [2**63 - 1], [0]), data)


def scatter(op, emit, data, indices, updates, **attrs):
    """Emit ScatterElements or ScatterND, in float32 where ONNX Runtime has no kernel for halves."""
    if data.dtype not in HALVES or attrs.get("reduction", "none") == "none":
        return emit(data, indices, updates, **attrs)
    wide = [op.cast(v, ir.DataType.FLOAT) for v in (data, updates)]
    return op.cast(emit(wide[0], indices, wide[1], **attrs), data.dtype)
