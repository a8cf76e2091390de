"""Find values by the names that users know: of a value, or of the node that makes it."""

import difflib

import onnx_ir as ir

from onnxsal.errors import LayerError


def find_value(graph: ir.Graph, name: str) -> ir.Value:
    """Return the value of that name, or the first output of the node of that name.

    Raises:
        LayerError: There is neither; the message has the nearest names.
    """
    values = {v.name: v for v in [*graph.inputs, *graph.initializers.values()] if v.name}
    values |= {v.name: v for node in graph for v in node.outputs if v.name}
    if name in values:
        return values[name]
    nodes = {node.name: node for node in graph if node.name}
    if name in nodes:
        return nodes[name].outputs[0]
    near = difflib.get_close_matches(name, [*values, *nodes], n=3, cutoff=0.5)
    hint = f"; the nearest are {', '.join(map(repr, near))}" if near else ""
    raise LayerError(f"the model has no value or node {name!r}{hint}: `onnxsal inspect` lists its layers")
