"""Give the bounds of Clip and the value of Pad the type of what they meet.

Up to opset 10 they were attributes, in float32 whatever the input's type. ONNX's version converter makes
float32 constants of them, which beside a float16 or double input is no valid model.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.respelling import Respelling
from onnxsal.graph.types import FLOATS, constant

LAST_OPSET_WITH_BOUNDS_AS_ATTRIBUTES = 10
BOUNDS = {"Clip": (1, 2), "Pad": (2,)}


def drop_unused_values(graph: ir.Graph) -> None:
    """Remove the value of each Pad that does not pad with it: ONNX's version converter would leave it an attribute."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        is_pad = node.op_type == "Pad" and node.domain in ("", "ai.onnx")
        if is_pad and node.attributes.get_string("mode", "constant") != "constant":
            node.attributes.pop("value", None)


def has_untyped_bounds(graph: ir.Graph) -> bool:
    """Tell whether a Clip or Pad may meet another type than float32: whether the graph has any."""
    nodes = list(ir.traversal.RecursiveGraphIterator(graph))
    values = [*graph.inputs, *graph.initializers.values()]
    others = FLOATS - {ir.DataType.FLOAT}
    return any(n.op_type in BOUNDS for n in nodes) and (
        any(v.dtype in others for v in values) or any(n.op_type in ("Cast", "Constant") for n in nodes)
    )


def type_bounds(graph: ir.Graph) -> None:
    """Cast the constants, where types are known by now."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type in BOUNDS and node.domain in ("", "ai.onnx"):
            for index in BOUNDS[node.op_type]:
                _type_bound(graph, node, index)


def _type_bound(graph: ir.Graph, node: ir.Node, index: int) -> None:
    bound = node.inputs[index] if index < len(node.inputs) else None
    array, wanted = constant(bound), node.inputs[0].dtype if node.inputs[0] is not None else None
    if array is None or bound is None or wanted not in FLOATS or bound.dtype == wanted:
        return
    with np.errstate(over="ignore"):  # no bound is the largest float32, which float16 takes for infinity
        array = array.astype(wanted.numpy())
    node.replace_input_with(index, Respelling(graph, node).constant(array))
