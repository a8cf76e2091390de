"""Nodes in the order that ONNX demands: each behind those that it reads from.

ONNX Runtime runs files whose nodes are in any order, and some tools write such (its own converter to float16
puts the casts of inputs at the end), so order is no reason to refuse one.
"""

import onnx_ir as ir

from onnxsal.errors import ModelError


def put_in_order(model: ir.Model) -> None:
    """Sort the nodes of a model's graphs, bodies and functions, if any stands before one that it reads from.

    Raises:
        ModelError: Nodes read from each other in a circle.
    """
    for graph in _roots(model):
        if not _is_in_order(graph):
            try:
                graph.sort()
            except ValueError as error:
                raise ModelError(
                    f"the model is not valid ONNX: nodes of {graph.name or 'its graph'} wait for each other"
                ) from error


def copy_in_order(model: ir.Model) -> ir.Model:
    """Return a copy of a model, its nodes in order. Weights are shared; the order of the original stays."""
    before = [(graph, list(graph)) for root in _roots(model) for graph in (root, *root.subgraphs())]
    put_in_order(model)
    try:
        return model.clone()
    finally:
        for graph, nodes in before:
            if list(graph) != nodes:
                graph.extend(nodes)


def _roots(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _is_in_order(graph: ir.Graph | ir.Function) -> bool:
    """Tell whether every node comes after those that it reads from, those in bodies too."""
    seen: set[ir.Node] = set()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if any(v is not None and (made := v.producer()) is not None and made not in seen for v in node.inputs):
            return False
        seen.add(node)
    return True
