"""YOLOv4 and tiny YOLOv2 of the ONNX model zoo, raw maps, boxes relative to anchors; and Darknet's models by PyTorch.

Sources: github.com/onnx/models, vision/object_detection_segmentation/yolov4 and tiny-yolov2;
github.com/Tianxiaomo/pytorch-YOLOv4, `tool/yolo_layer.py`.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxsal.detectors.emit import Floats, column, from_centres, grid, part, to_pixels
from onnxsal.detectors.registry import STRIDES, Candidate, Decode, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

V4_ANCHORS = np.array(
    [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]], np.float32
).reshape(3, 3, 2)
V4_SCALES = (1.2, 1.1, 1.05)
V2_ANCHORS = np.array([1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52], np.float32).reshape(5, 2)


@decoder("yolov4")
def yolov4(evidence: Evidence) -> Candidate | None:
    """Recognise three outputs (N, h, w, 3, 5 + K) over grids of strides 8, 16 and 32, or decoded boxes (N, P, 1, 4)."""
    if evidence.has("boxes", "confs") and evidence.outputs["boxes"][2:] == (1, 4):
        said = ["outputs `boxes` (.., 1, 4), corners in 0..1, and `confs`, all proposals"]
        return Candidate("yolov4", said, _decoded(evidence), 0.95)
    maps = {s[1]: (name, s) for name, s in evidence.outputs.items() if len(s) == 5 and s[3] == 3}
    rows = [evidence.size[0] // stride for stride in STRIDES]
    if len(evidence.outputs) != 3 or set(maps) != set(rows):
        return None

    def decode(op: Op) -> Proposals:
        levels = []
        for i, stride in enumerate(STRIDES):
            value = op.Reshape(find_value(op.graph, maps[rows[i]][0]), [0, -1, maps[rows[i]][1][4]])
            scale = V4_SCALES[i]
            # The offset reaches a little beyond the cell.
            offset = op.Sub(op.Mul(op.Sigmoid(part(op, value, 0, 2)), scale), (scale - 1) / 2)
            levels.append(_level(op, value, offset, evidence.size, stride, V4_ANCHORS[i]))
        return _together(op, levels, op.Sigmoid)

    said = [f"three outputs over grids of {', '.join(map(str, rows))} rows, three boxes a cell"]
    return Candidate("yolov4", said, decode, 0.9, evidence.levels(STRIDES, 3))


def _decoded(evidence: Evidence) -> Decode:
    def decode(op: Op) -> Proposals:
        corners = op.Squeeze(find_value(op.graph, "boxes"), [2])
        # An objectness is part of each class's score already.
        return Proposals(to_pixels(op, corners, evidence.size), find_value(op.graph, "confs"))

    return decode


@decoder("tiny-yolov2")
def tiny_yolov2(evidence: Evidence) -> Candidate | None:
    """Recognise (N, 125, 13, 13): five boxes a cell, four numbers, objectness and 20 classes each."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(evidence.outputs) != 1 or len(shape) != 4 or shape[1] != 125:
        return None

    def decode(op: Op) -> Proposals:
        value = op.Transpose(op.Reshape(find_value(op.graph, name), [0, 5, 25, -1]), perm=[0, 3, 1, 2])
        value = op.Reshape(value, [0, -1, 25])
        offset = op.Sigmoid(part(op, value, 0, 2))
        return _together(op, [_level(op, value, offset, evidence.size, 32, V2_ANCHORS * 32)], _softmax(op))

    said = [f"output {name!r} has 125 = 5 * (5 + 20) channels"]
    # A map of 125 classes has as many channels, but seldom so coarse a grid.
    rows, columns = evidence.size[0] // 32, evidence.size[1] // 32
    return Candidate(
        "tiny-yolov2", said, decode, 0.9 if shape[2:] == (rows, columns) else 0.4, evidence.levels((32,), 5)
    )


def _softmax(op: Op) -> Callable[[ir.Value], ir.Value]:
    return lambda value: op.Softmax(value, axis=-1)


def _level(
    op: Op, value: ir.Value, offset: ir.Value, size: tuple[int, int], stride: int, anchors: Floats
) -> tuple[ir.Value, ir.Value]:
    """Return corners (N, P, 4) of one grid's boxes, and their columns from the fifth on."""
    corners, _ = grid(size, (stride,))
    cells = op.const(np.repeat(corners, len(anchors), axis=0), value.dtype)
    centres = op.Mul(op.Add(offset, cells), op.scalar(stride, like=value))
    sizes = op.Mul(op.Exp(part(op, value, 2, 4)), op.const(np.tile(anchors, (len(corners), 1)), value.dtype))
    return from_centres(op, centres, sizes), part(op, value, 4)


def _together(op: Op, levels: list[tuple[ir.Value, ir.Value]], classify: Callable[[ir.Value], ir.Value]) -> Proposals:
    boxes, rest = (op.Concat(*values, axis=1) for values in zip(*levels, strict=True))
    return Proposals(boxes, classify(part(op, rest, 1)), op.Sigmoid(column(op, rest, 0)))
