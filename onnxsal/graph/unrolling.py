"""Write out the turns of a Loop that fills a list, where their number is known before the run.

PyTorch's older exporter writes `torch.tensor_split` as such a Loop. The parts differ in size, so that behind
the Loop no shape is known; written out, whoever reads the list can read its entries.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.flow import forget_reads
from onnxsal.graph.subgraph import replay
from onnxsal.graph.types import constant, dims, is_sequence

MOST_TURNS = 64


def unroll_lists(graph: ir.Graph, opset: int) -> bool:
    """Replace each such Loop by its turns, in place; tell whether there was any."""
    loops = [n for n in graph if n.op_type == "Loop" and n.domain in ("", "ai.onnx")]
    found = [(n, turns) for n in loops if _only_fills_lists(n) and (turns := _turns(n)) is not None]
    for node, turns in found:
        _unroll(Op(graph, opset), node, turns)
    return bool(found)


def _only_fills_lists(node: ir.Node) -> bool:
    return all(is_sequence(v) and not v.is_graph_output() for v in node.outputs)


def _turns(node: ir.Node) -> int | None:
    """Return the number of turns, if nothing but the count can end the Loop and it is known and small."""
    count, start = constant(node.inputs[0]), node.inputs[1]
    body = node.attributes["body"].as_graph()
    if count is None or not (start is None or _is_true(start)):
        return None
    again = body.outputs[0]
    turns = max(int(count.reshape(())), 0)
    return turns if turns <= MOST_TURNS and (again is body.inputs[1] or _is_true(again, body.inputs[1])) else None


def _is_true(value: ir.Value, given: ir.Value | None = None) -> bool:
    """Tell whether a condition surely holds, or is the one that was `given`."""
    node = value.producer()
    if node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        return node.inputs[0] is given or _is_true(node.inputs[0], given)
    known = constant(value)
    return known is not None and bool(known.all())


def _unroll(op: Op, node: ir.Node, turns: int) -> None:
    body, graph = node.attributes["body"].as_graph(), op.graph
    states: list[ir.Value] = [v for v in node.inputs[2:] if v is not None]
    shapes = [tuple(1 for _ in dims(v) or ()) for v in body.inputs[:2]]
    before = len(graph)
    with op.scope(node.name or str(node.outputs[0].name)):
        for turn in range(turns):
            number, going = np.full(shapes[0], turn, np.int64), np.full(shapes[1], True)
            states = replay(op, body, [op.const(number), op.const(going), *states])[1:]
    written = list(graph)[before:]
    graph.remove(written)
    graph.insert_before(node, written)
    for old, new in zip(node.outputs, states, strict=True):
        ir.convenience.replace_all_uses_with(old, new)
    forget_reads(node)
    graph.remove(node, safe=True)
