"""Let Resize mean what it meant: up to opset 10 it had no coordinate modes.

ONNX's version converter leaves them to the defaults of opset 11, `half_pixel` and `round_prefer_floor`,
under which linear modes, and nearest ones at scales that are not whole, come out otherwise.
"""

import onnx_ir as ir

from onnxsal.errors import UnsupportedModel
from onnxsal.graph.types import constant

LAST_OPSET_WITHOUT_MODES = 10


def sample_as_before_modes(graph: ir.Graph) -> None:
    """Give each Resize, converted from opset 10 or before, the modes that ONNX Runtime gives it there.

    Raises:
        UnsupportedModel: A nearest-neighbour one enlarges one axis and shrinks another, for which there is no mode.
    """
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type == "Resize" and node.domain in ("", "ai.onnx"):
            node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                "coordinate_transformation_mode", "asymmetric"
            )
            node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", _nearest_mode(node))


def _nearest_mode(node: ir.Node) -> str:
    """Return `ceil` where axes shrink, `floor` where they grow, or where only the run knows."""
    scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is None or not (scales < 1).any():
        return "floor"
    if (scales > 1).any() and node.attributes.get_string("mode", "nearest") == "nearest":
        raise UnsupportedModel(
            f"node {node.name or node.outputs[0].name!r} resizes to the nearest entry by {scales.tolist()}, which "
            f"enlarges one axis and shrinks another: opset 11 and later cannot say that; export the model at opset 11"
        )
    return "ceil"
