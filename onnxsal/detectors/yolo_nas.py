"""YOLO-NAS before suppression: (N, P, 4), corners in pixels, beside (N, P, K), class probabilities.

Source: github.com/Deci-AI/super-gradients, `pp_yolo_e/pp_yolo_head.py`. DAMO-YOLO (github.com/tinyvision/DAMO-YOLO)
writes the same; PP-YOLOE with `exclude_nms` too (github.com/PaddlePaddle/PaddleDetection), scores as (N, K, P).
"""

from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("yolo-nas")
def yolo_nas(evidence: Evidence) -> Candidate | None:
    """Recognise two outputs over the cells of three grids, one of four columns."""
    cells, shapes = evidence.cells(), list(evidence.outputs.items())
    boxes = [name for name, shape in shapes if shape[1:] == (cells, 4)]
    scores = [(name, shape) for name, shape in shapes if len(shape) == 3 and name not in boxes and cells in shape[1:]]
    if len(shapes) != 2 or len(boxes) != 1 or len(scores) != 1:
        return None
    name, shape = scores[0]

    def decode(op: Op) -> Proposals:
        table = find_value(op.graph, name)
        table = table if shape[1] == cells else op.Transpose(table, perm=[0, 2, 1])
        return Proposals(find_value(op.graph, boxes[0]), table)

    said = [f"outputs {boxes[0]!r} (.., 4) and {name!r} over {cells} cells of strides 8, 16 and 32"]
    return Candidate("yolo-nas", said, decode, 0.8, evidence.levels())
