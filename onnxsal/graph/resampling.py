"""Let Resize mean what it meant: up to opset 10 it had no coordinate modes.

ONNX's version converter leaves them to the defaults of opset 11, `half_pixel` and `round_prefer_floor`,
under which linear modes, and nearest ones at scales that are not whole, come out otherwise.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.respelling import Respelling, nodes_of
from onnxsal.graph.types import constant

LAST_OPSET_WITHOUT_MODES = 10
LAST_OPSET_WITH_UPSAMPLE = 9


def sample_as_before_modes(graph: ir.Graph, *, shrinks: bool) -> None:
    """Give each Resize, converted from opset 10 or before, the modes that ONNX Runtime gives it there.

    Args:
        graph: What was converted.
        shrinks: Whether scales may lie below 1: not those of Upsample, which Resize came after.
    """
    for node in nodes_of(graph, "Resize"):
        _set(node, "coordinate_transformation_mode", "asymmetric")
        scales = constant(node.inputs[2])
        if node.attributes.get_string("mode", "nearest") != "nearest" or not shrinks:
            _set(node, "nearest_mode", "floor")
        elif scales is None or ((scales < 1).any() and (scales > 1).any()):
            _enlarge_then_shrink(graph, node)
        else:
            _set(node, "nearest_mode", "ceil" if (scales < 1).any() else "floor")


def _enlarge_then_shrink(graph: ir.Graph, node: ir.Node) -> None:
    """Part a Resize in two: it took `floor` along axes that grow, and `ceil` along those that shrink."""
    new, (x, roi, scales) = Respelling(graph, node), node.inputs[:3]
    one = new.constant(np.ones(1, np.float32))
    modes = {name: a.value for name, a in node.attributes.items()} | {"nearest_mode": "floor"}
    larger = new.emit("Resize", [x, roi, new.emit("Max", [scales, one])], **modes)
    node.replace_input_with(0, larger)
    node.replace_input_with(2, new.emit("Min", [scales, one]))
    _set(node, "nearest_mode", "ceil")


def _set(node: ir.Node, name: str, value: str) -> None:
    node.attributes[name] = ir.AttrString(name, value)
