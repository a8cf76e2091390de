"""YOLOv5 and v7 exported without their last step: maps of logits, three boxes a cell, relative to anchors.

Sources: github.com/ultralytics/yolov5 (`models/yolo.py`, Detect; anchors in `models/yolov5s.yaml` and
`models/hub/yolov5s6.yaml`), github.com/WongKinYiu/yolov7 (`export.py` without `--grid`; anchors in
`cfg/training/yolov7.yaml`, `yolov7-tiny.yaml` and `yolov7-w6.yaml`).
"""

import numpy as np
import onnx_ir as ir

from onnxsal.detectors.emit import Floats, column, from_centres, grid, part
from onnxsal.detectors.registry import STRIDES, Candidate, Evidence, Proposals, decoder, listed
from onnxsal.detectors.yolov4 import V4_ANCHORS
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

V5_ANCHORS = np.array(
    [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]], np.float32
).reshape(3, 3, 2)
P6_ANCHORS = np.array(
    [
        [19, 27, 44, 40, 38, 94],
        [96, 68, 86, 152, 180, 137],
        [140, 301, 303, 264, 238, 542],
        [436, 615, 739, 380, 925, 792],
    ],
    np.float32,
).reshape(4, 3, 2)


@decoder("yolo-maps")
def yolo_maps(evidence: Evidence) -> Candidate | None:
    """Recognise an output (N, 3, h, w, 5 + K) for each of three or four grids, and nothing else."""
    strides = next((s for s in (STRIDES, (*STRIDES, 64)) if len(s) == len(evidence.outputs)), ())
    found = {shape[2:4]: (name, shape) for name, shape in evidence.outputs.items() if len(shape) == 5 and shape[1] == 3}
    sizes = [(rows, columns) for rows, columns, _ in evidence.levels(strides)]
    widths = {shape[4] for _, shape in found.values()}
    if not strides or set(found) != set(sizes) or len(widths) != 1:
        return None
    width = widths.pop()
    if not isinstance(width, int) or width < 6:
        return None
    whose, anchors = _anchors(evidence, len(strides))

    def decode(op: Op) -> Proposals:
        levels = [
            _level(op, find_value(op.graph, found[size][0]), evidence.size, stride, own, width)
            for size, stride, own in zip(sizes, strides, anchors, strict=True)
        ]
        boxes, rest = (op.Concat(*values, axis=1) for values in zip(*levels, strict=True))
        return Proposals(boxes, part(op, rest, 1), column(op, rest, 0))

    said = [
        f"{len(strides)} outputs of three boxes a cell over grids of strides {listed(strides)}",
        f"{width} = 5 + {width - 5} columns",
        f"anchors, which the file does not hold, taken for those of {whose} on COCO",
    ]
    fits = evidence.classes in (None, width - 5)
    return Candidate("yolo-maps", said, decode, 0.85 if fits else 0.45, evidence.levels(strides, 3))


def _anchors(evidence: Evidence, levels: int) -> tuple[str, Floats]:
    """Return whose anchors a model likely has, and these: widths and heights in pixels, (levels, 3, 2)."""
    if levels == len(P6_ANCHORS):
        return "YOLOv5 P6 and YOLOv7-W6", P6_ANCHORS
    # YOLOv7 halves maps by pooling, where YOLOv5 has strides of convolutions; so does its tiny model, of LeakyRelu,
    # which has YOLOv5's anchors.
    halves = any(
        node.op_type == "MaxPool" and list(node.attributes.get_ints("strides", [])) == [2, 2]
        for node in evidence.model.graph
    )
    if halves and "LeakyRelu" not in evidence.op_types:
        return "YOLOv7", V4_ANCHORS
    return "YOLOv5", V5_ANCHORS


def _level(
    op: Op, value: ir.Value, size: tuple[int, int], stride: int, anchors: Floats, width: int
) -> tuple[ir.Value, ir.Value]:
    """Return corners (N, P, 4) of one grid's boxes, and their objectness and classes."""
    corners, _ = grid(size, (stride,))
    said = op.Sigmoid(op.Reshape(value, [0, -1, width]))
    doubled = op.Mul(part(op, said, 0, 4), op.scalar(2, like=said))
    cells = op.const(np.tile(corners - 0.5, (len(anchors), 1)), value.dtype)
    extent = op.const(np.repeat(anchors, len(corners), axis=0), value.dtype)
    centres = op.Mul(op.Add(part(op, doubled, 0, 2), cells), op.scalar(stride, like=said))
    grown = part(op, doubled, 2, 4)
    return from_centres(op, centres, op.Mul(op.Mul(grown, grown), extent)), part(op, said, 4)
