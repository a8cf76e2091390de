"""Let Hardmax mean what it meant: up to opset 12 it saw a matrix, its input flattened at `axis`.

From opset 13 on it looks along one axis. ONNX's version converter spells this out for Softmax and LogSoftmax,
and leaves Hardmax as it stands.
"""

import onnx_ir as ir

from onnxsal.graph.respelling import Respelling, nodes_of

LAST_OPSET_THAT_FLATTENS = 12


def flatten_hardmax(graph: ir.Graph) -> None:
    """Write out the flattening around each Hardmax."""
    for node in nodes_of(graph, "Hardmax"):
        x = node.inputs[0]
        new = Respelling(graph, node)
        flat = new.emit("Flatten", [x], axis=node.attributes.get_int("axis", 1))
        new.end("Reshape", [new.emit("Hardmax", [flat], axis=1), new.emit("Shape", [x])])
