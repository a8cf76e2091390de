"""Let GroupNormalization mean what it meant: up to opset 20 it had a scale and a bias per group, not per channel.

ONNX's version converter leaves them as they are, which no runtime takes then.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.respelling import Respelling, nodes_of

LAST_OPSET_WITH_GROUP_SCALES = 20


def spell_group_scales(graph: ir.Graph) -> None:
    """Write each GroupNormalization as an InstanceNormalization whose instances are the groups."""
    for node in nodes_of(graph, "GroupNormalization"):
        x, scale, bias = node.inputs
        new = Respelling(graph, node)
        groups = new.constant(np.array([0, node.attributes.get_int("num_groups", 1), -1], np.int64))
        normal = new.emit(
            "InstanceNormalization",
            [new.emit("Reshape", [x, groups]), scale, bias],
            epsilon=node.attributes.get_float("epsilon", 1e-5),
        )
        new.end("Reshape", [normal, new.emit("Shape", [x])])
