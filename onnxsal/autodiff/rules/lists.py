"""Rules for sequences of tensors: the cotangent of a sequence is a sequence, entry for entry."""

import onnx_ir as ir

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.graph.lists import each, zeros_for

declare_zero("SequenceLength", "input_sequence")
declare_zero("OptionalHasElement", "input")


@vjp("SequenceConstruct", wrt="inputs")
def construct(op, node, g):
    return [op.SequenceAt(g, place) for place in range(len(node.inputs))]


@vjp("SequenceAt", wrt="input_sequence")
def at(op, node, g):
    zeros = zeros_for(op, node.input_sequence, node.gradient_type("input_sequence"))
    place = from_begin(op, node.position, op.SequenceLength(zeros))
    return op.SequenceInsert(op.SequenceErase(zeros, place), g, place)


@vjp("SequenceInsert", wrt="input_sequence")
def insert(op, node, g):
    return op.SequenceErase(g, inserted(op, node))


@vjp("SequenceInsert", wrt="tensor")
def inserted_tensor(op, node, g):
    return op.SequenceAt(g, inserted(op, node))


def inserted(op, node):
    """Return where the tensor lies in the longer sequence."""
    length = op.SequenceLength(node.input_sequence)
    return length if node.position is None else from_begin(op, node.position, length)


@vjp("SequenceErase", wrt="input_sequence")
def erase(op, node, g):
    place = op.const(-1) if node.position is None else node.position
    zero = zeros_for(op, op.SequenceAt(node.input_sequence, place), node.gradient_type("input_sequence"))
    return op.SequenceInsert(g, zero, from_begin(op, place, op.SequenceLength(node.input_sequence)))


def from_begin(op, place, length):
    """Return a place counted from the begin, where it may be counted from the end."""
    place = op.cast(place, ir.DataType.INT64)
    return op.Where(op.Less(place, 0), op.Add(place, length), place)


# ----- Joined and parted -----


@vjp("SplitToSequence", wrt="input")
def split_to_sequence(op, node, g):
    squeezed = node.split is None and not node.attrs["keepdims"]
    return op.ConcatFromSequence(g, axis=node.attrs["axis"], new_axis=squeezed)


@vjp("ConcatFromSequence", wrt="input_sequence")
def concat_from_sequence(op, node, g):
    axis = node.attrs["axis"]
    if node.attrs["new_axis"]:
        return op.SplitToSequence(g, axis=axis, keepdims=0)
    sizes = each(
        op, [node.input_sequence], lambda inner, entry: inner.Gather(inner.Shape(entry), [axis]), ir.DataType.INT64
    )
    return op.SplitToSequence(g, op.ConcatFromSequence(sizes, axis=0), axis=axis)


# ----- What may hold nothing: its cotangent is that of what it holds -----


@vjp("Optional", wrt="input")
@vjp("OptionalGetElement", wrt="input")
def hold(op, node, g):
    return g
