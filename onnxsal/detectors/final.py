"""Heads that have suppressed already: one box, one score, one class each.

What they leave out cannot be recovered: D-RISE gets the degraded form (IoU times the score of the same class), and a
box that falls below the exporter's threshold counts as gone.
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.detectors.emit import column, finished, part, rows_first, to_pixels
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

DETS = ("num_dets", "det_boxes", "det_scores", "det_classes")
PREDICTIONS = ("num_predictions", "pred_boxes", "pred_scores", "pred_classes")
"""YOLO-NAS's own exporter puts the name of a part of its graph before each."""


@decoder("end2end")
def end2end(evidence: Evidence) -> Candidate | None:
    """Recognise `num_dets`, `det_boxes`, `det_scores`, `det_classes`, of YOLOv6, v7 and v9 exported end to end.

    YOLO-NAS writes `num_predictions`, `pred_boxes`, `pred_scores`, `pred_classes`.
    """
    found = _ending(evidence, DETS) or _ending(evidence, PREDICTIONS)
    if found is None:
        return None

    def decode(op: Op) -> Proposals:
        boxes, scores, classes = (find_value(op.graph, name) for name in found[1:])
        return finished(op, boxes, scores, classes, evidence.labels)

    return Candidate("end2end", [f"outputs {', '.join(map(repr, found))}"], decode, 0.95)


def _ending(evidence: Evidence, names: Sequence[str]) -> list[str] | None:
    """Return the outputs whose names end in these, one for each; None if one has none."""
    found = [next((output for output in evidence.outputs if output.endswith(name)), None) for name in names]
    return None if None in found else [name for name in found if name is not None]


@decoder("yolov7-end2end")
def yolov7(evidence: Evidence) -> Candidate | None:
    """Recognise (n, 7): photo, x1, y1, x2, y2, class, score, of YOLOv7 exported for ONNX Runtime."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(evidence.outputs) != 1 or len(shape) != 2 or shape[1] != 7:
        return None
    # A classifier of seven classes has rows of seven, too.
    if not (evidence.suppresses or name.endswith("flat_predictions")):
        return None
    nas = name.endswith("flat_predictions") or "nas" in evidence.metadata.get("description", "").lower()
    score, label = (5, 6) if nas else (6, 5)
    order = "score, class (YOLO-NAS)" if nas else "class, score (YOLOv7)"

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        return finished(op, part(op, rows, 1, 5), column(op, rows, score), column(op, rows, label), evidence.labels)

    return Candidate(
        "yolov7-end2end", [f"output {name!r} has rows of 7: photo, corners, {order}"], decode, 0.7, single=True
    )


@decoder("mmdeploy")
def mmdeploy(evidence: Evidence) -> Candidate | None:
    """Recognise `dets` (N, n, 5), corners and score, beside `labels` (N, n)."""
    if not evidence.has("dets", "labels") or evidence.outputs["dets"][2:] != (5,):
        return None

    def decode(op: Op) -> Proposals:
        rows, labels = find_value(op.graph, "dets"), find_value(op.graph, "labels")
        return finished(op, part(op, rows, 0, 4), column(op, rows, 4), labels, evidence.labels)

    return Candidate("mmdeploy", ["outputs `dets` (.., 5) and `labels`"], decode, 0.95)


@decoder("paddle")
def paddle(evidence: Evidence) -> Candidate | None:
    """Recognise (M, 6): class, score, x1, y1, x2, y2, beside the number of boxes, of PaddleDetection.

    Boxes are in pixels of the photo before `scale_factor`; fed 1, 1, they are in pixels of the input.
    """
    name, shape = next(iter(evidence.outputs.items()))
    if "scale_factor" not in evidence.inputs or len(shape) != 2 or shape[1] != 6:
        return None

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        return finished(op, part(op, rows, 2, 6), column(op, rows, 1), column(op, rows, 0), evidence.labels)

    said = ["input `scale_factor`", f"output {name!r} has rows of 6: class, score, corners"]
    return Candidate("paddle", said, decode, 0.9, single=True)


@decoder("efficientdet")
def efficientdet(evidence: Evidence) -> Candidate | None:
    """Recognise `detections` (1, N, 7): photo, y1, x1, y2, x2, score, class from 1, of TensorFlow's EfficientDet."""
    found = [(name, shape) for name, shape in evidence.outputs.items() if len(shape) == 3 and shape[2] == 7]
    if len(evidence.outputs) != 1 or not found:
        return None
    name = found[0][0]

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        boxes = rows_first(op, part(op, rows, 1, 5))
        return finished(op, boxes, column(op, rows, 5), column(op, rows, 6), evidence.labels, 1)

    said = [f"output {name!r} has rows of 7: photo, y1, x1, y2, x2, score, class"]
    return Candidate("efficientdet", said, decode, 0.8 if name.startswith("detections") else 0.5)


@decoder("boxes-scores-labels")
def boxes_scores_labels(evidence: Evidence) -> Candidate | None:
    """Recognise `boxes`, `scores`, `labels`: torchvision's detectors, RT-DETR's own export, SSD of the ONNX model zoo.

    torchvision and RT-DETR give pixels; SSD-12 of the zoo gives fractions, and has a batch.
    """
    found = next(((b, "scores", "labels") for b in ("boxes", "bboxes") if evidence.has(b, "scores", "labels")), None)
    found = found or _torchvision(evidence)
    if found is None:
        return None
    boxes, scores, labels = found
    zoo = boxes == "bboxes" and len(evidence.outputs[boxes]) == 3
    sizes = "orig_target_sizes" in evidence.inputs
    origin = "SSD of the ONNX model zoo, fractions" if zoo else "RT-DETR, pixels" if sizes else "torchvision, pixels"
    single = len(evidence.outputs[boxes]) == 2
    # A background comes first where classes shut each other out: in SSD and R-CNN, not in RetinaNet and FCOS. A YOLO's
    # Softmax is over the distances of a side.
    first = 1 if zoo or (single and "Softmax" in evidence.op_types and not sizes) else 0

    def decode(op: Op) -> Proposals:
        corners = find_value(op.graph, boxes)
        corners = to_pixels(op, corners, evidence.size) if zoo else corners
        return finished(op, corners, find_value(op.graph, scores), find_value(op.graph, labels), evidence.labels, first)

    said = [f"outputs {boxes!r}, {scores!r}, {labels!r}: {origin}"]
    return Candidate("boxes-scores-labels", said, decode, 0.8, single=single)


def _torchvision(evidence: Evidence) -> tuple[str, str, str] | None:
    """Return boxes (D, 4), scores and labels (D,) of a torchvision export that lost its names."""
    values = {str(v.name): v for v in evidence.model.graph.outputs}
    fours = [n for n, s in evidence.outputs.items() if len(s) == 2 and s[1] == 4]
    flat = [n for n, s in evidence.outputs.items() if len(s) == 1]
    scores = [n for n in flat if values[n].dtype == ir.DataType.FLOAT]
    labels = [n for n in flat if values[n].dtype == ir.DataType.INT64]
    if len(fours) == len(scores) == len(labels) == 1:
        return fours[0], scores[0], labels[0]
    return None
