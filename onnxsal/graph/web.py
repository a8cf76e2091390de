"""Spellings for browsers: what ONNX Runtime's WebGPU providers, or others, lack a kernel for, in operators they have.

WebGPU has no Indices of MaxPool and no antialiased Resize, its older build no Slice backwards, and it wants
the geometry of convolutions in full; what it leaves to the CPU, such as Scatter, costs a copy each way. CUDA
lacks MaxUnpool and Col2Im. (Source: the operators' tables of onnxruntime-web 1.30, and runs of one operator
each in a browser.)

To scatter is to compare: every place with every index, adding up the updates where they are equal. That takes
memory for all pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.builder import Op, Spelling, rank
from onnxsal.graph.types import constant, dims, same_dim, static_shape

Inputs = list[ir.Value | None]
Attributes = dict[str, Any]

MOST_PAIRS = 1 << 27  # of places and indices: half a gigabyte as float32


# ----- Convolutions -----


def _convolution(op_type: str) -> Spelling:
    def spell(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> ir.Value | None:
        """Say the geometry in full."""
        assert inputs[1] is not None
        kernel = attributes.get("kernel_shape") or list((dims(inputs[1]) or ())[2:])
        if not kernel or not all(isinstance(k, int) for k in kernel):
            op.refuse(op_type, "the kernel's size is known at run time only")
            return None
        ones = [1] * len(kernel)
        geometry = {"kernel_shape": kernel, "strides": ones, "dilations": ones, "group": 1}
        made: ir.Value = op.emit_as_is(op_type, inputs, geometry | attributes | {"kernel_shape": kernel})
        return made

    return spell


# ----- Slices -----


def _slice(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> ir.Value | None:
    """Pick by index where a step runs backwards."""
    data, starts, ends, axes, steps = inputs + [None] * (5 - len(inputs))
    if steps is None:
        return None
    known = constant(steps)
    if known is None:
        op.refuse("Slice", "its steps are known at run time only")
        return None
    backwards = [i for i, step in enumerate(known) if step < 0]
    if not backwards:
        return None
    assert data is not None
    axes = op.const(np.arange(known.size)) if axes is None else axes
    where = constant(axes)
    if where is None:
        op.refuse("Slice", "the axes of its negative steps are known at run time only")
        return None
    forwards = [i for i in range(known.size) if i not in backwards]
    if forwards:
        data = op.Slice(data, *(_entries(op, v, forwards) for v in (starts, ends, axes, steps)))
    for i in backwards:
        start, end = (_entries(op, v, [i]) for v in (starts, ends))
        axis = int(where[i]) % rank(data)
        data = op.Gather(data, _backwards(op, op.dim(data, axis), start, end, int(known[i])), axis=axis)
    return data


def _entries(op: Op, vector: ir.Value | None, places: Sequence[int]) -> ir.Value:
    """Return some entries of an integer vector, int64."""
    assert vector is not None
    known = constant(vector)
    if known is not None:
        return op.const(known[list(places)].astype(np.int64))
    return op.cast(op.Gather(vector, op.const(list(places))), ir.DataType.INT64)


def _backwards(op: Op, size: ir.Value, start: ir.Value, end: ir.Value, step: int) -> ir.Value:
    """Return which indices a slice with a negative step picks; start and end as in Slice, int64 (1,)."""
    known = [constant(v) for v in (size, start, end)]
    if all(k is not None for k in known):
        n, first, last = (int(k[0]) for k in known if k is not None)
        first, last = (min(max(b + n if b < 0 else b, low), n - 1) for b, low in ((first, 0), (last, -1)))
        return op.const(np.arange(first, last, step))
    begin, stop = (
        op.Min(op.Max(op.Where(op.Less(b, [0]), op.Add(b, size), b), [low]), op.Sub(size, [1]))
        for b, low in ((start, 0), (end, -1))
    )
    # Not Range(begin, stop, step): ONNX Runtime 1.32 makes a Slice of the Gather, and takes an end of -1 for the last.
    count = op.Max(op.Div(op.Add(op.Sub(begin, stop), [-step - 1]), [-step]), [0])
    return op.Sub(begin, op.Mul(_places(op, count), [-step]))


# ----- Scatter -----


def _scatter_elements(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> ir.Value | None:
    """Compare each index along the axis with each place on it."""
    data, indices, updates = inputs
    assert data is not None
    assert indices is not None
    assert updates is not None
    if data.dtype == ir.DataType.BOOL:
        return _as_numbers(op, "ScatterElements", inputs, attributes)
    axis = attributes.get("axis", 0) % rank(data)
    pairs = [*(static_shape(indices) or [0]), (dims(data) or ())[axis]]
    if not _bearable(op, "ScatterElements", pairs):
        return None
    n, size = rank(data), op.dim(data, axis)
    places = op.Reshape(_places(op, size), [-1] + [1] * (n - 1 - axis))
    hits = op.Equal(op.Unsqueeze(_from_start(op, indices, size), [axis + 1]), places)

    def fit(value: ir.Value, fill: ir.Value) -> ir.Value:
        """Pad to the extent of the data: the indices may cover less of the other axes."""
        others = [a for a in range(n) if a != axis and not same_dim((dims(data) or ())[a], (dims(value) or ())[a])]
        if not others:
            return value
        where = op.const(others)
        missing = op.Sub(op.Gather(op.Shape(data), where), op.Gather(op.Shape(value), where))
        return op.Pad(value, op.Concat(op.const([0] * len(others)), missing, axis=0), fill, where)

    return _combine(op, data, hits, op.Unsqueeze(updates, [axis + 1]), axis, attributes.get("reduction", "none"), fit)


def _scatter_nd(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> ir.Value | None:
    """Compare each index, counted through the axes it names, with each place on these."""
    data, indices, updates = inputs
    assert data is not None
    assert indices is not None
    assert updates is not None
    if data.dtype == ir.DataType.BOOL:
        return _as_numbers(op, "ScatterND", inputs, attributes)
    depth = (dims(indices) or (None,))[-1]
    if not isinstance(depth, int):
        op.refuse("ScatterND", "how many axes its indices name is known at run time only")
        return None
    shape, reduction = op.shape(data), attributes.get("reduction", "none")
    count, entries = static_shape(indices), static_shape(data)
    # A product of matrices needs no room for every pair's row of updates.
    width = prod((entries or ())[depth:]) if reduction not in ("none", "add") else 1
    if count and entries and not _bearable(op, "ScatterND", [*count[:-1], *entries[:depth], width]):
        return None
    sizes, rest = op.Slice(shape, [0], [depth], [0]), op.Slice(shape, [depth], [2**63 - 1], [0])
    number, width_ = op.ReduceProd(sizes, keepdims=1), op.ReduceProd(rest, keepdims=1)
    rows = op.Reshape(data, op.Concat(number, width_, axis=0), allowzero=1)
    at = op.Reshape(_row_numbers(op, indices, sizes, depth), [-1])
    new = op.Reshape(updates, op.Concat(op.Shape(at), width_, axis=0), allowzero=1)
    hits = op.Equal(op.Unsqueeze(at, [1]), _places(op, number))  # (updates, rows)
    if reduction in ("none", "add"):
        found = op.MatMul(op.Transpose(op.cast(hits, data.dtype), perm=[1, 0]), new)
        made = op.Add(rows, found) if reduction == "add" else op.Where(_any(op, hits, 0, [1]), found, rows)
    else:
        made = _combine(op, rows, op.Unsqueeze(hits, [2]), op.Unsqueeze(new, [1]), 0, reduction, lambda v, _: v)
    return op.Reshape(made, shape, allowzero=1)


def _as_numbers(op: Op, op_type: str, inputs: Inputs, attributes: Attributes) -> ir.Value:
    """Scatter truth values as integers."""
    data, indices, updates = inputs
    assert data is not None
    assert updates is not None
    numbers = [op.Cast(v, to=ir.DataType.INT32) for v in (data, updates)]
    made: ir.Value = op.emit(op_type, numbers[0], indices, numbers[1], **attributes)
    return op.Cast(made, to=ir.DataType.BOOL)


def _combine(
    op: Op,
    data: ir.Value,
    hits: ir.Value,
    updates: ir.Value,
    axis: int,
    reduction: str,
    fit: Callable[[ir.Value, ir.Value], ir.Value],
) -> ir.Value:
    """Bring together the data and, over one axis, the updates that hit each place."""
    zero, one = op.scalar(0, like=data), op.scalar(1, like=data)
    if reduction in ("none", "add"):
        found = fit(op.ReduceSum(op.Where(hits, updates, zero), [axis], keepdims=0), zero)
        if reduction == "add":
            return op.Add(data, found)
        one_hit = fit(op.Cast(_any(op, hits, axis), to=ir.DataType.FLOAT), op.const(0.0))
        return op.Where(op.Greater(one_hit, op.const(0.5)), found, data)
    if reduction == "mul":
        return op.Mul(data, fit(op.ReduceProd(op.Where(hits, updates, one), [axis], keepdims=0), one))
    nothing = op.const(_extreme(data, lowest=reduction == "max"), data.dtype)
    reduce, choose = (op.ReduceMax, op.Max) if reduction == "max" else (op.ReduceMin, op.Min)
    return choose(data, fit(reduce(op.Where(hits, updates, nothing), [axis], keepdims=0), nothing))


def _any(op: Op, hits: ir.Value, axis: int, widen: Sequence[int] = ()) -> ir.Value:
    """Tell where anything hits, over one axis."""
    count = op.ReduceSum(op.Cast(hits, to=ir.DataType.FLOAT), [axis], keepdims=0)
    found = op.Greater(count, op.const(0.5))
    return op.Unsqueeze(found, list(widen)) if widen else found


def _extreme(value: ir.Value, *, lowest: bool) -> float | int:
    assert value.dtype is not None
    if value.dtype.is_floating_point():
        return -np.inf if lowest else np.inf
    info = np.iinfo(value.dtype.numpy())
    return int(info.min if lowest else info.max)


def _from_start(op: Op, indices: ir.Value, size: ir.Value) -> ir.Value:
    """Return indices counted from the start, int64; negative ones count from the end."""
    known = constant(indices)
    if known is not None and (known >= 0).all():
        return op.cast(indices, ir.DataType.INT64)
    indices = op.cast(indices, ir.DataType.INT64)
    return op.Where(op.Less(indices, op.const(0)), op.Add(indices, size), indices)


def _row_numbers(op: Op, indices: ir.Value, sizes: ir.Value, depth: int) -> ir.Value:
    """Return which place an index names, counted through the first axes."""
    number = op.const([0])
    for i in range(depth):
        size = op.Slice(sizes, [i], [i + 1], [0])
        entry = op.Slice(indices, [i], [i + 1], [-1])
        number = op.Add(op.Mul(number, size), _from_start(op, entry, size))
    return number


def _places(op: Op, size: ir.Value) -> ir.Value:
    return op.Range(op.const(0), op.Squeeze(size, [0]), op.const(1))


def _bearable(op: Op, op_type: str, pairs: Sequence[int | str | None]) -> bool:
    count = prod(d for d in pairs if isinstance(d, int))
    if count > MOST_PAIRS:
        op.refuse(op_type, f"comparing indices with places takes {count} pairs")
        return False
    return True


# ----- What has no other spelling -----


def _max_pool(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> None:
    if outputs > 1:
        op.refuse("MaxPool", "its Indices")


def _resize(op: Op, inputs: Inputs, attributes: Attributes, outputs: int) -> None:
    if attributes.get("antialias"):
        op.refuse("Resize", "antialias")


def _never(op_type: str) -> Spelling:
    return lambda op, inputs, attributes, outputs: op.refuse(op_type, "it has no kernel there")


WEB: Mapping[str, Spelling] = {
    "Conv": _convolution("Conv"),
    "ConvTranspose": _convolution("ConvTranspose"),
    "Slice": _slice,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "MaxUnpool": _never("MaxUnpool"),
    "Col2Im": _never("Col2Im"),
}
"""What is written in place of operators that browsers lack."""
