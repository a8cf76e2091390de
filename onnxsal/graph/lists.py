"""Work on sequences of tensors, entry by entry."""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.subgraph import argument, loop_arguments, open_body, result, write
from onnxsal.graph.types import is_sequence

Entry = Callable[..., ir.Value]


def each(op: Op, lists: Sequence[ir.Value], make: Entry, dtype: ir.DataType) -> ir.Value:
    """Return the sequence of `make(op, *entries)`, of type `dtype`, for the entries of sequences of one length."""
    empty = empty_list(op, dtype)
    inner = open_body(op, "each")
    turn, going = loop_arguments(inner)
    so_far = argument(inner, empty)
    made = make(inner, *(inner.SequenceAt(s, turn) for s in lists))
    result(inner, going)
    result(inner, inner.SequenceInsert(so_far, made))
    (found,) = write(op, "Loop", [op.SequenceLength(lists[0]), op.const(True), empty], [empty], {"body": inner})
    return found


def empty_list(op: Op, dtype: ir.DataType) -> ir.Value:
    """Return a sequence of no tensors of one type."""
    found: ir.Value = op.SequenceEmpty(dtype=dtype)
    # Its entries may have any shape, whatever inference says of none.
    found.type = ir.SequenceType(ir.TensorType(dtype))
    return found


def zeros_for(op: Op, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return zeros of the shape of a tensor or, of a sequence, as many of its entries' shapes."""
    if isinstance(value.type, ir.OptionalType):
        return _zeros_if_held(op, value, dtype)
    if is_sequence(value):
        return each(op, [value], lambda inner, entry: zeros_for(inner, entry, dtype), dtype)
    return op.Expand(op.const(0.0, dtype), op.shape(value))


def _zeros_if_held(op: Op, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return zeros for what an optional value holds; any that are empty, which nobody reads, if it holds nothing."""
    held, nothing = open_body(op, "held"), open_body(op, "nothing")
    found = zeros_for(held, held.OptionalGetElement(value), dtype)
    none = empty_list(nothing, dtype) if is_sequence(found) else nothing.Expand(op.const(0.0, dtype), [0])
    result(held, found)
    result(nothing, none)
    like = ir.Value(type=found.type)
    bodies = {"then_branch": held, "else_branch": nothing}
    return write(op, "If", [op.OptionalHasElement(value)], [like], bodies)[0]


def add_lists(op: Op, a: ir.Value, b: ir.Value) -> ir.Value:
    """Add two sequences entry by entry."""
    assert a.dtype is not None
    return each(op, [a, b], lambda inner, p, q: inner.Add(p, q), a.dtype)
