"""Put the branch that is taken in the place of an If whose condition is known.

PyTorch's older exporter writes an If wherever a size might be one; behind it not even the number of
axes is known before the run.
"""

import onnx_ir as ir

from onnxsal.graph.flow import forget_reads
from onnxsal.graph.types import constant


def take_known_branches(graph: ir.Graph) -> bool:
    """Put the branch in the place of each If whose condition is constant, in place; tell whether any was."""
    ifs = [n for n in graph if n.op_type == "If" and n.domain in ("", "ai.onnx")]
    found = [n for n in ifs if constant(n.inputs[0]) is not None]
    for node in found:
        _take(graph, node)
    return bool(found)


def _take(graph: ir.Graph, node: ir.Node) -> None:
    condition = constant(node.inputs[0])
    assert condition is not None
    branch = node.attributes["then_branch" if condition.all() else "else_branch"].as_graph()
    outputs = list(branch.outputs)
    branch.outputs.clear()
    nodes = list(branch)
    branch.remove(nodes)
    for inner in nodes:
        graph.insert_before(node, inner)
    for old, new in zip(node.outputs, outputs, strict=True):
        _stand_in(graph, node, old, new)
    forget_reads(node)
    graph.remove(node, safe=True)


def _stand_in(graph: ir.Graph, node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Let a value of the branch take the place, and the name, of the output that it was."""
    name, kind, shape = old.name, old.type, old.shape
    old.name = f"{name}_of_if"
    copy = ir.Node("", "Identity", [new], num_outputs=1, name=old.name)
    graph.insert_before(node, copy)
    copy.outputs[0].name, copy.outputs[0].type, copy.outputs[0].shape = name, kind, shape
    ir.convenience.replace_all_uses_with(old, copy.outputs[0], replace_graph_outputs=True)
