"""YOLOX: (N, P, 5 + K), a row per cell of the grids of strides 8, 16 and 32.

Source: github.com/Megvii-BaseDetection/YOLOX, `models/yolo_head.py` (decode_outputs). Exported without
`--decode_in_inference`, as the project's own script does it, boxes are offsets within their cell and logarithms of
sizes, in units of the stride.
"""

import onnx_ir as ir

from onnxsal.detectors.boxes_and_classes import joined_boxes
from onnxsal.detectors.emit import column, from_centres, grid, part
from onnxsal.detectors.registry import STRIDES, Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value
from onnxsal.graph.types import dims


@decoder("yolox")
def yolox(evidence: Evidence) -> Candidate | None:
    """Recognise one output of 5 + K columns, objectness in the fifth, over the cells of three grids."""
    if len(evidence.outputs) != 1:
        return None
    ((name, shape),) = evidence.outputs.items()
    cells = evidence.cells()
    if len(shape) != 3 or shape[1] != cells or not isinstance(shape[2], int) or shape[2] < 6:
        return None
    if joined_boxes(evidence, name, shape[2]) is not None and not _has_objectness(evidence, name):
        return None
    decoded = bool(evidence.behind(name, {"Exp"}, 8))
    said = [
        f"output {name!r} has {cells} rows, the cells of strides 8, 16 and 32",
        f"{shape[2]} = 5 + {shape[2] - 5} columns",
    ]
    said.append("boxes are decoded in the graph (Exp)" if decoded else "boxes are not decoded in the graph (no Exp)")

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        boxes = part(op, rows, 0, 4)
        corners = (
            from_centres(op, part(op, boxes, 0, 2), part(op, boxes, 2, 4))
            if decoded
            else _decode(op, boxes, evidence.size)
        )
        return Proposals(corners, part(op, rows, 5), column(op, rows, 4))

    fits = evidence.classes is None or evidence.classes == shape[2] - 5
    return Candidate("yolox", said, decode, 0.8 if fits else 0.4, evidence.levels())


def _has_objectness(evidence: Evidence, name: str) -> bool:
    """Tell whether a single channel is joined to others: PP-YOLOE and YOLOv8 have as many rows, and none."""
    joins = evidence.behind(name, {"Concat"}, 16)
    return any((dims(v) or ())[1:2] == (1,) for node in joins for v in node.inputs if v is not None)


def _decode(op: Op, boxes: ir.Value, size: tuple[int, int]) -> ir.Value:
    """Return corners in pixels: (offset + cell) * stride, exp(size) * stride."""
    corners, strides = grid(size, STRIDES)
    scale = op.const(strides, boxes.dtype)
    centres = op.Mul(op.Add(part(op, boxes, 0, 2), op.const(corners, boxes.dtype)), scale)
    return from_centres(op, centres, op.Mul(op.Exp(part(op, boxes, 2, 4)), scale))
