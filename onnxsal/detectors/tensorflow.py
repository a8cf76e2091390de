"""TensorFlow's Object Detection API: boxes as y1, x1, y2, x2 in 0..1, classes from 1.

Source: github.com/tensorflow/models, `research/object_detection/exporter_lib_v2.py`.
"""

from onnxsal.detectors.emit import finished, part, rows_first, to_pixels
from onnxsal.detectors.registry import Candidate, Decode, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

RAW = ("raw_detection_boxes", "raw_detection_scores")
FINAL = ("detection_boxes", "detection_scores", "detection_classes")


@decoder("tensorflow")
def tensorflow(evidence: Evidence) -> Candidate | None:
    """Recognise `detection_boxes` and its kin, and take `raw_detection_scores`, all classes, where they are there."""
    if evidence.has(*RAW):
        return Candidate("tensorflow", [f"outputs {RAW[0]!r} and {RAW[1]!r}, before suppression"], _raw(evidence), 0.95)
    if not evidence.has(*FINAL):
        return None

    def decode(op: Op) -> Proposals:
        boxes, scores, classes = (find_value(op.graph, name) for name in FINAL)
        return finished(op, to_pixels(op, rows_first(op, boxes), evidence.size), scores, classes, evidence.labels, 1)

    return Candidate("tensorflow", [f"outputs {', '.join(map(repr, FINAL))}, after suppression"], decode, 0.9)


def _raw(evidence: Evidence) -> Decode:
    def decode(op: Op) -> Proposals:
        boxes, scores = (find_value(op.graph, name) for name in RAW)
        # The first column is the background.
        return Proposals(to_pixels(op, rows_first(op, boxes), evidence.size), part(op, scores, 1), first_class=1)

    return decode
