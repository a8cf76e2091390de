"""Ultralytics' YOLOv8, v9, 11, 12 and World: (N, 4 + K, P), boxes by centre in pixels, then class probabilities.

They have no objectness. Source: github.com/ultralytics/ultralytics, `nn/modules/head.py` (Detect).
"""

from onnxsal.detectors.emit import from_centres, part
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("ultralytics")
def ultralytics(evidence: Evidence) -> Candidate | None:
    """Recognise an output of 4 + K rows over the cells of three grids."""
    name, shape = next(iter(evidence.outputs.items()))
    cells = evidence.cells()
    if len(shape) != 3 or shape[2] != cells or not isinstance(shape[1], int) or shape[1] < 5:
        return None
    author = evidence.metadata.get("author") == "Ultralytics"
    classes = evidence.classes if evidence.classes is not None and evidence.classes <= shape[1] - 4 else shape[1] - 4
    said = [
        f"output {name!r} has {cells} columns, the cells of strides 8, 16 and 32",
        f"{shape[1]} rows, 4 + {classes} or more",
    ]
    said += ["metadata: author Ultralytics"] if author else []

    def decode(op: Op) -> Proposals:
        rows = op.Transpose(find_value(op.graph, name), perm=[0, 2, 1])
        corners = from_centres(op, part(op, rows, 0, 2), part(op, rows, 2, 4))
        return Proposals(corners, part(op, rows, 4, 4 + classes))

    return Candidate("ultralytics", said, decode, 0.95 if author else 0.7, evidence.levels())
