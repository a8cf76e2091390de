"""Write SequenceMap as the Loop that it stands for."""

import onnx_ir as ir

from onnxsal.graph.types import is_sequence


def loop_over_sequences(graph: ir.Graph) -> bool:
    """Replace each SequenceMap by a Loop, in place; tell whether there was any."""
    found = [n for n in graph if n.op_type == "SequenceMap" and n.domain in ("", "ai.onnx")]
    for node in found:
        _loop(graph, node)
    return bool(found)


def _loop(graph: ir.Graph, node: ir.Node) -> None:
    """Run the body once per entry; a sequence gives it its entry, anything else goes in whole."""
    body, stem = node.attributes["body"].as_graph(), node.outputs[0].name
    turn = _value(f"{stem}_turn", ir.TensorType(ir.DataType.INT64), ir.Shape([]))
    going = _value(f"{stem}_going", ir.TensorType(ir.DataType.BOOL), ir.Shape([]))
    first = body[0] if len(body) else None
    for outer, inner in zip(node.inputs, list(body.inputs), strict=True):
        assert outer is not None
        given = outer
        if is_sequence(outer):
            entry = _node("SequenceAt", [outer, turn], f"{inner.name}_entry")
            body.insert_before(first, entry) if first is not None else body.append(entry)
            given = entry.outputs[0]
        ir.convenience.replace_all_uses_with(inner, given, replace_graph_outputs=True)
    makes = list(body.outputs)
    body.inputs.clear()
    body.outputs.clear()
    states = [_value(f"{v.name}_so_far", ir.SequenceType(ir.TensorType(_dtype(v))), None) for v in makes]
    body.inputs.extend([turn, going, *states])
    on = _node("Identity", [going], f"{stem}_on")
    longer = [_node("SequenceInsert", [s, v], f"{v.name}_added") for s, v in zip(states, makes, strict=True)]
    for made in (on, *longer):
        body.append(made)
        body.outputs.append(made.outputs[0])
    for made, like in zip((on, *longer), (going, *states), strict=True):
        made.outputs[0].type = like.type
    _put(graph, node, body, [_dtype(v) for v in makes])


def _put(graph: ir.Graph, node: ir.Node, body: ir.Graph, kinds: list[ir.DataType]) -> None:
    """Put the Loop in the place of the node."""
    stem = node.outputs[0].name
    length = _node("SequenceLength", [node.inputs[0]], f"{stem}_length")
    empty = [_node("SequenceEmpty", [], f"{v.name}_empty", dtype=k) for v, k in zip(node.outputs, kinds, strict=True)]
    inputs = [length.outputs[0], None, *(e.outputs[0] for e in empty)]
    node.attributes.pop("body")
    loop = ir.Node("", "Loop", inputs, [ir.AttrGraph("body", body)], num_outputs=len(kinds), name=node.name)
    for made in (length, *empty, loop):
        graph.insert_before(node, made)
    for old, new in zip(node.outputs, loop.outputs, strict=True):
        new.name, old.name = old.name, f"{old.name}_of_map"
        new.type, new.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None
    return value.dtype


def _value(name: str, kind: ir.TypeProtocol, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=name, type=kind, shape=shape)


def _node(op_type: str, inputs: list[ir.Value | None], name: str, **attributes: int) -> ir.Node:
    attrs = [ir.AttrInt64(key, value) for key, value in attributes.items()]
    node = ir.Node("", op_type, inputs, attrs, num_outputs=1, name=name)
    node.outputs[0].name = name
    return node
