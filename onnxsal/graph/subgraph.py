"""Write nodes that hold graphs: If, Loop and Scan.

A body is written by a builder of its own; it may read any value of the graphs around it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.flow import subgraphs


def open_body(op: Op, name: str) -> Op:
    """Return what writes an empty body of a node that `op` will write."""
    body = ir.Graph([], [], nodes=[], opset_imports={"": op.opset}, name=op.fresh(name))
    return op.within(body)


def argument(inner: Op, like: ir.Value, name: str = "item") -> ir.Value:
    """Add an input to a body, of the type and shape of another value."""
    value = ir.Value(name=inner.fresh(f"{inner.graph.name}/{name}"), type=like.type, shape=_copy(like))
    inner.graph.inputs.append(value)
    return value


def loop_arguments(inner: Op) -> tuple[ir.Value, ir.Value]:
    """Add the first two inputs of a Loop's body: the number of the turn, and whether it is still going."""
    turn = ir.Value(type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    going = ir.Value(type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    return argument(inner, turn, "turn"), argument(inner, going, "going")


def result(inner: Op, value: ir.Value) -> None:
    """Add an output to a body. It has to be made there, and can be no second output too."""
    node = value.producer()
    if node is None or node.graph is not inner.graph or value in inner.graph.outputs:
        (value,) = write(inner, "Identity", [value], [value])
    inner.graph.outputs.append(value)


def write(
    op: Op,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    like: Sequence[ir.Value],
    bodies: dict[str, Op] | None = None,
    **attributes: Any,
) -> list[ir.Value]:
    """Append a node whose outputs have the types and shapes of the values `like`, and return its outputs."""
    name = op.fresh(f"{op.scope_name}/{op_type}")
    outputs = [
        ir.Value(name=op.fresh(f"{name}_{i}" if i else name), type=v.type, shape=_copy(v)) for i, v in enumerate(like)
    ]
    held = [ir.AttrGraph(key, body.graph) for key, body in (bodies or {}).items()]
    rest = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]
    op.graph.append(ir.Node("", op_type, inputs, held + rest, outputs=outputs, name=name))
    return outputs


def _copy(value: ir.Value) -> ir.Shape | None:
    return None if value.shape is None else value.shape.copy()


def replay(op: Op, body: ir.Graph, given: Sequence[ir.Value]) -> list[ir.Value]:
    """Append a copy of the nodes of a body, with other values for its inputs; return what stands for its outputs."""
    copy = body.clone(allow_outer_scope_values=True)
    stands = dict(zip(copy.inputs, given, strict=True))
    outputs = [stands.get(v, v) for v in copy.outputs]
    copy.outputs.clear()
    for old, new in stands.items():
        ir.convenience.replace_all_uses_with(old, new)
    nodes = list(copy)
    copy.remove(nodes)
    for node in nodes:
        _rename(op, node)
        op.graph.append(node)
    return outputs


def _rename(op: Op, node: ir.Node) -> None:
    """Give a copied node, and all within, names of their own."""
    node.name = op.fresh(f"{op.scope_name}/{node.name or node.op_type}")
    _rename_values(op, node.outputs)
    for graph in subgraphs(node):
        _rename_values(op, graph.inputs)
        for inner in graph:
            _rename(op, inner)


def _rename_values(op: Op, values: Iterable[ir.Value]) -> None:
    for value in values:
        if value.name:
            value.name = op.fresh(f"{op.scope_name}/{value.name}")
