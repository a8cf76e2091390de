"""YOLO-NAS before suppression: (N, P, 4), corners in pixels, beside (N, P, K), class probabilities.

Source: github.com/Deci-AI/super-gradients, `pp_yolo_e/pp_yolo_head.py`.
"""

from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("yolo-nas")
def yolo_nas(evidence: Evidence) -> Candidate | None:
    """Recognise two outputs over the cells of three grids, one of four columns."""
    shapes = list(evidence.outputs.items())
    if len(shapes) != 2 or any(len(s) != 3 or s[1] != evidence.cells() for _, s in shapes):
        return None
    boxes = [name for name, shape in shapes if shape[2] == 4]
    scores = [name for name, shape in shapes if shape[2] != 4]
    if len(boxes) != 1 or len(scores) != 1:
        return None

    def decode(op: Op) -> Proposals:
        return Proposals(find_value(op.graph, boxes[0]), find_value(op.graph, scores[0]))

    said = [f"outputs {boxes[0]!r} (.., 4) and {scores[0]!r} over {evidence.cells()} cells of strides 8, 16 and 32"]
    return Candidate("yolo-nas", said, decode, 0.8, evidence.levels())
