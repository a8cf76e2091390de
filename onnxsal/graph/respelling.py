"""Write a node in other words: other nodes stand before it, and it becomes the last of them.

So its outputs stay what they are, and with them what the user calls a layer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def nodes_of(graph: ir.Graph, op_type: str) -> list[ir.Node]:
    """Return the nodes of one standard operator, subgraphs included."""
    nodes = ir.traversal.RecursiveGraphIterator(graph)
    return [n for n in nodes if n.op_type == op_type and n.domain in ("", "ai.onnx")]


class Respelling:
    """Emits nodes before the one that is respelled; their names begin with that of its output."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        """Respell `node`, which stands in `graph` or in a subgraph of it."""
        self._graph, self._node = graph, node
        self._taken = set(_names(graph))

    def emit(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """Insert a node and return its output."""
        home = self._node.graph
        assert home is not None
        name = self._fresh(f"{self._node.outputs[0].name}_{op_type.lower()}")
        made = ir.Node("", op_type, inputs, ir.convenience.convert_attributes(attributes), name=name)
        made.outputs[0].name = name
        home.insert_before(self._node, made)
        return made.outputs[0]

    def constant(self, array: np.ndarray) -> ir.Value:
        """Return an initializer of the outermost graph."""
        name = self._fresh(f"{self._node.outputs[0].name}_constant")
        tensor = ir.tensor(array, name=name)
        made = ir.Value(
            name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(list(array.shape))
        )
        self._graph.register_initializer(made)
        return made

    def end(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> None:
        """Make the node itself the last one."""
        node = self._node
        node.op_type = op_type
        node.attributes.clear()
        node.attributes.update({a.name: a for a in ir.convenience.convert_attributes(attributes)})
        node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)

    def _fresh(self, name: str) -> str:
        number, candidate = 0, name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate


def _names(graph: ir.Graph) -> Iterator[str | None]:
    yield from (v.name for v in graph.inputs)
    yield from graph.initializers
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield node.name
        yield from (v.name for v in node.outputs)
