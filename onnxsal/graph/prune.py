"""Remove what no output needs."""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from onnxsal.graph.flow import forget_reads, subgraphs


def prune(model: ir.Model) -> None:
    """Drop nodes and initializers that no graph output needs, in place. Graph inputs stay."""
    drop_unread(model.graph)
    common.RemoveUnusedNodesPass()(model)


def drop_unread(graph: ir.Graph, *, keep: Sequence[ir.Value] = ()) -> None:
    """Drop the nodes of a graph, and of the graphs within, that neither an output nor a value to keep needs."""
    outputs = {*graph.outputs, *keep}
    for node in reversed(list(graph)):
        if not any(v.uses() or v in outputs for v in node.outputs):
            forget_reads(node)
            graph.remove(node, safe=True)
            continue
        for inner in subgraphs(node):
            drop_unread(inner)
