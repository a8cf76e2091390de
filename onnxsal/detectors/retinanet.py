"""RetinaNet of the ONNX model zoo: maps of class scores and of box offsets, one of each for every level of the pyramid.

Sources: Lin et al. 2017, arXiv:1708.02002; github.com/NVIDIA/retinanet-examples, `retinanet/box.py` (generate_anchors,
decode), which the zoo's model was exported from: nine anchors a cell, their sides rounded to whole pixels.
"""

from math import log2

import numpy as np
import onnx_ir as ir

from onnxsal.detectors.emit import Floats, from_centres, grid, part
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

RATIOS = (1.0, 2.0, 0.5)
SCALES = tuple(4 * 2 ** (i / 3) for i in range(3))
ANCHORS = len(RATIOS) * len(SCALES)
LEVELS = range(3, 7)
"""How many levels a pyramid may have."""


@decoder("retinanet")
def retinanet(evidence: Evidence) -> Candidate | None:
    """Recognise maps of 9 K channels, and as many of 9 * 4, over the same grids."""
    maps = _pairs(evidence)
    if not maps or _ends_pointwise(evidence, maps[0][0]):
        return None
    strides = [_stride(evidence, scores, i) for i, (scores, _) in enumerate(maps)]
    live = bool(evidence.behind(maps[0][0], {"Sigmoid"}, 2))
    classes = int(str(evidence.outputs[maps[0][0]][1])) // ANCHORS

    def decode(op: Op) -> Proposals:
        boxes, probabilities = [], []
        for (scores, offsets), stride in zip(maps, strides, strict=True):
            table = _rows(op, find_value(op.graph, scores), classes)
            probabilities.append(table if live else op.Sigmoid(table))
            boxes.append(_boxes(op, _rows(op, find_value(op.graph, offsets), 4), evidence.size, stride))
        return Proposals(op.Concat(*boxes, axis=1), op.Concat(*probabilities, axis=1))

    said = [
        f"{len(maps)} maps of {ANCHORS} * {classes} channels and as many of {ANCHORS} * 4",
        f"strides {', '.join(map(str, strides))}",
        "class maps are sigmoids" if live else "class maps are logits",
    ]
    fits = evidence.classes in (None, classes)
    return Candidate("retinanet", said, decode, 0.85 if fits else 0.6, evidence.levels(strides, ANCHORS))


def _pairs(evidence: Evidence) -> list[tuple[str, str]]:
    """Return the names of a class map and a box map for each level, the finest first; none where outputs do not fit."""
    outputs = list(evidence.outputs.items())
    count = len(outputs) // 2
    if len(outputs) % 2 or count not in LEVELS or any(len(s) != 4 or not isinstance(s[1], int) for _, s in outputs):
        return []
    boxes = [(name, shape) for name, shape in outputs if shape[1] == ANCHORS * 4]
    # Four classes have as many channels as boxes: the order tells, classes first.
    boxes = boxes if len(boxes) == count else outputs[count:]
    scores = [(name, shape) for name, shape in outputs if (name, shape) not in boxes]
    channels = {shape[1] for _, shape in scores}
    if {shape[1] for _, shape in boxes} != {ANCHORS * 4} or len(channels) != 1 or int(str(channels.pop())) % ANCHORS:
        return []
    pairs = list(zip(scores, boxes, strict=True))
    if any(one[2:] != other[2:] for (_, one), (_, other) in pairs):
        return []
    return [(scores_name, boxes_name) for (scores_name, _), (boxes_name, _) in pairs]


def _ends_pointwise(evidence: Evidence, name: str) -> bool:
    """Tell whether a map is the output of a 1 x 1 convolution: EfficientDet's are, over anchors of other sides."""
    convolutions = evidence.behind(name, {"Conv"}, 3)
    return any(list(node.attributes.get_ints("kernel_shape", [])) == [1, 1] for node in convolutions[:1])


def _stride(evidence: Evidence, name: str, level: int) -> int:
    """Return how many pixels a cell of a map is wide; of a map whose size only the run knows, as the paper has it."""
    columns = evidence.outputs[name][3]
    # A grid that does not divide the image sticks out of it.
    return 1 << round(log2(evidence.size[1] / columns)) if isinstance(columns, int) and columns else 8 << level


def _rows(op: Op, value: ir.Value, width: int) -> ir.Value:
    """Return (N, 9 * width, h, w) as (N, h * w * 9, width)."""
    split = op.Reshape(value, [0, ANCHORS, width, -1])
    return op.Reshape(op.Transpose(split, perm=[0, 3, 1, 2]), [0, -1, width])


def _boxes(op: Op, offsets: ir.Value, size: tuple[int, int], stride: int) -> ir.Value:
    """Return corners (N, P, 4): an anchor moved by parts of its sides, and grown by exponentials."""
    corners, _ = grid(size, (stride,))
    centres, sides = _anchors(stride)
    middle = op.const((corners[:, None] * stride + centres).reshape(-1, 2), offsets.dtype)
    extent = op.const(np.tile(sides, (len(corners), 1)), offsets.dtype)
    moved = op.Add(middle, op.Mul(part(op, offsets, 0, 2), extent))
    return from_centres(op, moved, op.Mul(extent, op.Exp(part(op, offsets, 2, 4))))


def _anchors(stride: int) -> tuple[Floats, Floats]:
    """Return centres and sides, (9, 2), of the anchors of the first cell."""
    ratios, scales = np.tile(RATIOS, len(SCALES)), np.repeat(SCALES, len(RATIOS))
    width = np.round(np.sqrt(stride * stride / ratios))
    sides = np.stack([width, np.round(width * ratios)], axis=1) * scales[:, None]
    return np.full((ANCHORS, 2), stride / 2, np.float32), sides.astype(np.float32)
