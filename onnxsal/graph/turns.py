"""Follow shapes into the bodies of control flow, and out again.

ONNX's inference leaves open what shape a Loop's states have, since it may change from turn to turn. Most
do not: what the first turn is given comes out of it in the same shape, and then it is that of every turn.
"""

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnxsal.graph.flow import subgraphs
from onnxsal.graph.types import Dim, dims, same_dim

if TYPE_CHECKING:
    from onnxsal.graph.symbols import Walk

Known = tuple[Dim, ...] | None


def follow_into(walk: "Walk", node: ir.Node) -> None:
    """Let `walk` visit what a node holds, and tell the shapes of the node's outputs."""
    follow = {"If": _follow_if, "Loop": _follow_loop, "Scan": _follow_scan}.get(node.op_type)
    if follow is not None and node.domain in ("", "ai.onnx"):
        follow(walk, node)
        return
    for graph in subgraphs(node):
        walk.visit_all(graph)


def _follow_if(walk: "Walk", node: ir.Node) -> None:
    branches = subgraphs(node)
    for graph in branches:
        walk.visit_all(graph)
    for value, *results in zip(node.outputs, *(graph.outputs for graph in branches), strict=True):
        _tell(walk, value, _common(*map(dims, results)))


def _follow_scan(walk: "Walk", node: ir.Node) -> None:
    graph, attributes = node.attributes["body"].as_graph(), node.attributes
    count = attributes.get_int("num_scan_inputs", 0)
    states = len(node.inputs) - count
    length: Dim = None
    axes = [0] * states + list(attributes.get_ints("scan_input_axes") or [0] * count)
    for index, (outer, inner) in enumerate(zip(node.inputs, graph.inputs, strict=True)):
        shape = dims(outer) if outer is not None else None
        if index >= states and shape is not None:
            axis = axes[index] % len(shape)
            length = shape[axis] if length is None else length
            shape = shape[:axis] + shape[axis + 1 :]
        _give(walk, inner, shape)
    walk.visit_all(graph)
    after = list(attributes.get_ints("scan_output_axes") or [0] * len(node.outputs))
    for index, (outer, inner) in enumerate(zip(node.outputs, graph.outputs, strict=True)):
        shape = dims(inner)
        if index >= states and shape is not None:
            axis = after[index - states] % (len(shape) + 1)
            shape = (*shape[:axis], length, *shape[axis:])
        _tell(walk, outer, shape)


def _follow_loop(walk: "Walk", node: ir.Node) -> None:
    """Suppose that the states keep their shapes, and give up what a turn shows to change."""
    graph, initial = node.attributes["body"].as_graph(), node.inputs[2:]
    for value in graph.inputs[:2]:
        _give(walk, value, () if value.shape is None else dims(value))
    supposed = [dims(v) if v is not None else None for v in initial]
    found = None
    while found != supposed:
        supposed = supposed if found is None else found
        with walk.suppose():
            _enter_loop(walk, graph, supposed)
            after = graph.outputs[1 : 1 + len(supposed)]
            if found is None:
                lists = zip(supposed, initial, graph.inputs[2:], after, strict=True)
                found = [_first_entries(walk, i, b, a) or _common(s, dims(a)) for s, i, b, a in lists]
            else:
                found = [_common(s, dims(a)) for s, a in zip(supposed, after, strict=True)]
    _enter_loop(walk, graph, supposed)
    slices = [dims(v) for v in graph.outputs[1 + len(supposed) :]]
    for outer, shape in zip(node.outputs, [*supposed, *(s and (None, *s) for s in slices)], strict=False):
        _tell(walk, outer, shape)


def _first_entries(walk: "Walk", initial: ir.Value | None, before: ir.Value, after: ir.Value) -> Known:
    """Return the shape of what the first turn adds to a sequence that is empty before; None where it does not."""
    maker = initial.producer() if initial is not None else None
    if maker is None or maker.op_type != "SequenceEmpty":
        return None
    added: list[Known] = []
    while after is not before and (node := after.producer()) is not None and node.op_type == "SequenceInsert":
        longer, tensor = node.inputs[:2]
        assert longer is not None
        assert tensor is not None
        after = longer
        added.append(dims(tensor))
    shape = reduce(_common, added) if added and after is before else None
    # A size that is found in the body may be another one in every turn.
    return shape and tuple(d if isinstance(d, int) or (d and walk.stems_from_input(d)) else None for d in shape)


def _enter_loop(walk: "Walk", graph: ir.Graph, states: Sequence[Known]) -> None:
    """Follow the shapes of states through one turn."""
    for value, shape in zip(graph.inputs[2:], states, strict=True):
        _give(walk, value, shape)
    _forget(graph)
    before, walk.anew = walk.anew, True
    walk.visit_all(graph)
    walk.anew = before


def _forget(graph: ir.Graph) -> None:
    """Drop what was supposed of values in a body. Behind operators that ONNX does not define it was declared."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs if node.domain in ("", "ai.onnx") else ():
            value.shape = None


def _give(walk: "Walk", value: ir.Value, shape: Known) -> None:
    """Write the shape of what a body is given."""
    if shape != dims(value):
        value.shape = None if shape is None else ir.Shape(list(shape))
    walk.changed.add(value)


def _tell(walk: "Walk", value: ir.Value, shape: Known) -> None:
    if shape is not None:
        walk.merge(value, shape)


def _common(a: Known, b: Known) -> Known:
    """Return what two shapes have in common."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(p if same_dim(p, q) else None for p, q in zip(a, b, strict=True))
