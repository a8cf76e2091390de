"""Infer types and shapes of a whole model, by ONNX's own inference.

ONNX reads protobufs, so it gets an outline of the graph: its nodes without their documentation, and of
large weights only what they are called and how large they are. Operators that it does not know are
written as what they compute. Only what it found is read back.
"""

from collections.abc import Iterator

import onnx
import onnx.shape_inference
import onnx_ir as ir

from onnxsal.errors import ModelError
from onnxsal.graph.expansions import Expanded, expand, is_foreign
from onnxsal.graph.ranks import learn_ranks
from onnxsal.graph.types import UNINFERRED, constant, dims, is_sequence

BIG = 1024  # bytes; larger initializers stay out of what passes through ONNX's C++ functions


def infer_shapes(model: ir.Model, *, strict: bool = True) -> None:
    """Write types and shapes onto all values, by ONNX's inference with data propagation.

    Raises:
        ModelError: Types do not fit each other; unless told not to be `strict`.
    """
    waiting, more = _unwritten(model), True
    while more:
        _infer_once(model, strict)
        before, waiting = waiting, _unwritten(model) if waiting else []
        more = learn_ranks(model) or len(waiting) < len(before)
    for value in model.graph.initializers.values():
        type_as_its_tensor(value)


def _unwritten(model: ir.Model) -> list[ir.Node]:
    """Return operators that ONNX does not know and cannot be told of, perhaps since shapes are not known yet."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return [n for n in nodes if is_foreign(n) and expand(n) is None]


def _infer_once(model: ir.Model, strict: bool) -> None:
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    proto = onnx.ModelProto(ir_version=max(model.ir_version or 4, 4), opset_import=imports)
    _outline(model.graph, proto.graph, weights_as_inputs=True)
    try:
        found = onnx.shape_inference.infer_shapes(proto, check_type=strict, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"the model is not valid ONNX: {str(error).splitlines()[0]}") from error
    _read_back(model.graph, found.graph)
    _forget_sizes_of_entries(model.graph)


def type_as_its_tensor(value: ir.Value) -> None:
    """Give an initializer type and shape of what it holds."""
    if value.const_value is not None:
        value.type = ir.TensorType(value.const_value.dtype)
        value.shape = ir.Shape([d for d in value.const_value.shape if isinstance(d, int)])


def is_big(value: ir.Value) -> bool:
    """Tell whether an initializer is too large to pass through protobufs."""
    return value.const_value is not None and value.const_value.nbytes > BIG


def _forget_sizes_of_entries(graph: ir.Graph) -> None:
    """Drop names that stand for sizes of a sequence's entries: ONNX calls all of them alike, and they may differ."""
    values = [v for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs]
    surely = {d for v in graph.inputs if not is_sequence(v) for d in dims(v) or ()}
    unsure = {d for v in [*graph.inputs, *values] if is_sequence(v) for d in dims(v) or () if isinstance(d, str)}
    unsure -= surely
    for value in values if unsure else ():
        shape = dims(value)
        if shape is not None and not unsure.isdisjoint(shape):
            value.shape = ir.Shape([None if d in unsure else d for d in shape])


# ----- There -----


def _outline(graph: ir.Graph, proto: onnx.GraphProto, *, weights_as_inputs: bool) -> None:
    """Write a graph into a protobuf."""
    proto.name = graph.name or "graph"
    inputs = list(graph.inputs)
    for value in graph.initializers.values():
        if weights_as_inputs and is_big(value):
            type_as_its_tensor(value)
            inputs += [] if value.is_graph_input() else [value]
        elif value.const_value is not None:
            ir.serde.serialize_tensor_into(proto.initializer.add(), value.const_value)
            proto.initializer[-1].name = str(value.name)
    if not weights_as_inputs:
        _outline_constants(graph, proto)
    for value in inputs:
        ir.serde.serialize_value_into(proto.input.add(), value)
    for value in graph.outputs:
        ir.serde.serialize_value_into(proto.output.add(), value)
    outputs = set(graph.outputs)
    for node in graph:
        expanded = expand(node) if is_foreign(node) else None
        if expanded is None:
            _outline_node(node, proto.node.add())
        else:
            # What was found of its outputs before is found again, and better where its inputs are known better.
            _outline_expanded(node, expanded, proto)
        for value in node.outputs if expanded is None else ():
            if value.type is not None and value.name and value not in outputs:
                ir.serde.serialize_value_into(proto.value_info.add(), value)


def _outline_constants(body: ir.Graph, proto: onnx.GraphProto) -> None:
    """Hand small constants of enclosing graphs to a body that reads them: ONNX looks for axes and shapes within."""
    read = {v: None for node in body for v in node.inputs if v is not None and v.name not in body.initializers}
    for value in read:
        if value.const_value is not None and constant(value) is not None and not is_big(value):
            ir.serde.serialize_tensor_into(proto.initializer.add(), value.const_value)
            proto.initializer[-1].name = str(value.name)


def _outline_node(node: ir.Node, proto: onnx.NodeProto) -> None:
    if node.name:  # an empty one would show in messages
        proto.name = node.name
    proto.output.extend(str(v.name) for v in node.outputs)
    if node.op_type in UNINFERRED and node.domain == "":
        proto.op_type = "Identity"
        proto.input.extend([_name(node.inputs[0])])
        return
    proto.op_type, proto.domain = node.op_type, node.domain
    proto.input.extend(map(_name, node.inputs))
    for attr in node.attributes.values():
        if attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) and not attr.is_ref():
            _outline_graphs(attr, proto.attribute.add())
        else:
            proto.attribute.append(ir.serde.serialize_attribute(attr))


def _outline_expanded(node: ir.Node, expanded: Expanded, proto: onnx.GraphProto) -> None:
    """Write an operator as what it computes, under the names of its own outputs."""
    for weight in expanded.weights:
        assert weight.const_value is not None
        if is_big(weight):
            ir.serde.serialize_value_into(proto.value_info.add(), weight)
        else:
            ir.serde.serialize_tensor_into(proto.initializer.add(), weight.const_value)
    for made in expanded.nodes:
        _outline_node(made, proto.node.add())
    names = {v.name: w.name for v, w in zip(expanded.outputs, node.outputs, strict=True) if v is not None}
    for made_proto in proto.node[len(proto.node) - len(expanded.nodes) :]:
        for side in (made_proto.input, made_proto.output):
            side[:] = [names.get(name) or name for name in side]


def _outline_graphs(attr: ir.Attr, proto: onnx.AttributeProto) -> None:
    proto.name, proto.type = attr.name, attr.type.value  # type: ignore[assignment]  # the stub wants its own enum
    for graph in _graphs(attr):
        inner = proto.g if attr.type == ir.AttributeType.GRAPH else proto.graphs.add()
        _outline(graph, inner, weights_as_inputs=False)


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)


def _graphs(attr: ir.Attr) -> list[ir.Graph]:
    return [attr.as_graph()] if attr.type == ir.AttributeType.GRAPH else list(attr.as_graphs())


# ----- And back -----


def _read_back(graph: ir.Graph, proto: onnx.GraphProto) -> None:
    """Write what was found of each value onto it."""
    found = {info.name: info.type for info in (*proto.value_info, *proto.output)}
    nodes = {name: node for node in proto.node for name in node.output if name}
    for node in graph:
        for value in node.outputs:
            if (kind := found.get(str(value.name))) is not None:
                _keep(value, kind)
        twin = next((nodes[v.name] for v in node.outputs if v.name in nodes), None)
        for inner, there in _bodies(node, twin) if twin is not None else ():
            _read_back(inner, there)
            for value, info in zip(inner.inputs, there.input, strict=True):
                if value.type is None:
                    _keep(value, info.type)


def _bodies(node: ir.Node, twin: onnx.NodeProto) -> Iterator[tuple[ir.Graph, onnx.GraphProto]]:
    there = {a.name: [a.g, *a.graphs] if a.HasField("g") else list(a.graphs) for a in twin.attribute}
    for attr in node.attributes.values():
        if attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) and not attr.is_ref():
            yield from zip(_graphs(attr), there[attr.name], strict=True)


def _keep(value: ir.Value, kind: onnx.TypeProto) -> None:
    typed = ir.serde.deserialize_type_proto_for_type(kind)
    if typed is not None:
        value.type, value.shape = typed, ir.serde.deserialize_type_proto_for_shape(kind)
