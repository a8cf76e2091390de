"""Heads without objectness whose rows are a box and its classes: (N, P, 4 + K).

PP-YOLOE writes corners (github.com/PaddlePaddle/PaddleDetection, `ppyoloe_head.py`, with `exclude_post_process`);
YOLOv8, where its output was transposed, centres and sizes. What the graph computes last of a box tells which.
"""

import onnx_ir as ir

from onnxsal.detectors.emit import from_centres, part
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder, listed
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value
from onnxsal.graph.types import dims

PASSES = ("Mul", "Div", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast")
"""What a box may pass behind the step that joins its two halves."""


@decoder("boxes-and-classes")
def boxes_and_classes(evidence: Evidence) -> Candidate | None:
    """Recognise rows over the cells of grids, joined from four columns and all others."""
    name, shape = next(iter(evidence.outputs.items()))
    strides = evidence.pyramid(shape[1]) if len(shape) == 3 and len(evidence.outputs) == 1 else None
    if strides is None or not isinstance(shape[2], int) or shape[2] < 5:
        return None
    boxes = joined_boxes(evidence, name, shape[2])
    centred = None if boxes is None else _is_centred(boxes)
    if centred is None:
        return None
    classes = shape[2] - 4

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        boxes = part(op, rows, 0, 4)
        corners = from_centres(op, part(op, boxes, 0, 2), part(op, boxes, 2, 4)) if centred else boxes
        return Proposals(corners, part(op, rows, 4))

    said = [
        f"output {name!r} has {shape[1]} rows, the cells of strides {listed(strides)}",
        f"{shape[2]} = 4 + {classes} columns, joined from these",
        f"boxes are {'centres and sizes' if centred else 'corners'}, as their last step shows",
    ]
    fits = evidence.classes in (None, classes)
    return Candidate("boxes-and-classes", said, decode, 0.85 if fits else 0.45, evidence.levels(strides))


def joined_boxes(evidence: Evidence, name: str, columns: int) -> ir.Value | None:
    """Return the four columns that an output is joined from with all others; None where it is joined otherwise."""
    for node in evidence.behind(name, {"Concat"}, 3):
        sizes = [dims(v) or () for v in node.inputs if v is not None]
        axis = node.attributes["axis"].as_int()
        if len(sizes) == 2 and [s[axis] for s in sizes if len(s) == 3] == [4, columns - 4]:
            return node.inputs[0]
    return None


def _is_centred(boxes: ir.Value) -> bool | None:
    """Tell from what makes the second half of a box: a difference is a size, a sum a corner; None if it is neither."""
    node = boxes.producer()
    while node is not None and node.op_type in PASSES and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Concat" or len(node.inputs) != 2 or node.inputs[1] is None:
        return None
    half = node.inputs[1].producer()
    return {"Sub": True, "Add": False}.get(half.op_type) if half is not None else None
