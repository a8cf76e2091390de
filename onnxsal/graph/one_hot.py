"""Rows of zeros with a single one: written here, and known again, since a product with them is a choice of rows."""

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.types import constant


def one_hot(op: Op, index: ir.Value, count: ir.Value, like: ir.Value) -> ir.Value:
    """Return (N, count): 1 at the sample's index, 0 elsewhere, in the type of `like`."""
    zero, one = op.const(0), op.const(1)
    places = op.Unsqueeze(op.Range(zero, op.Squeeze(count, [0]), one), [0])
    return op.cast(op.Equal(op.Unsqueeze(index, [1]), places), like.dtype)


def hot_index(value: ir.Value) -> ir.Value | None:
    """Return the index (N,) of which `value` is the `one_hot`; None if it is something else."""
    equal = _made_by("Equal", _input(_made_by("Cast", value), 0))
    index, places = (_made_by("Unsqueeze", _input(equal, i)) for i in (0, 1))
    counted = _made_by("Range", _input(places, 0))
    if not _is(_input(index, 1), 1) or not _is(_input(places, 1), 0):
        return None
    return _input(index, 0) if _is(_input(counted, 0), 0) and _is(_input(counted, 2), 1) else None


def _made_by(op_type: str, value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def _input(node: ir.Node | None, index: int) -> ir.Value | None:
    return None if node is None else node.inputs[index]


def _is(value: ir.Value | None, number: int) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and array.item() == number
