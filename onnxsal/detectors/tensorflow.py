"""TensorFlow's Object Detection API: boxes as y1, x1, y2, x2 in 0..1, classes from 1.

TensorFlow 1 writes the number of an operator's output behind its name, as in `detection_boxes:0`.

Source: github.com/tensorflow/models, `research/object_detection/exporter_lib_v2.py`.
"""

from collections.abc import Sequence

from onnxsal.detectors.emit import finished, part, rows_first, to_pixels
from onnxsal.detectors.registry import Candidate, Decode, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

RAW = ("raw_detection_boxes", "raw_detection_scores")
FINAL = ("detection_boxes", "detection_scores", "detection_classes")


@decoder("tensorflow")
def tensorflow(evidence: Evidence) -> Candidate | None:
    """Recognise `detection_boxes` and its kin, and take `raw_detection_scores`, all classes, where they are there."""
    names = {name.removesuffix(":0"): name for name in evidence.outputs}
    if set(RAW) <= set(names):
        raw = [names[name] for name in RAW]
        said = [f"outputs {raw[0]!r} and {raw[1]!r}, before suppression"]
        return Candidate("tensorflow", said, _raw(evidence, raw), 0.95)
    if not set(FINAL) <= set(names):
        return None
    final = [names[name] for name in FINAL]

    def decode(op: Op) -> Proposals:
        boxes, scores, classes = (find_value(op.graph, name) for name in final)
        return finished(op, to_pixels(op, rows_first(op, boxes), evidence.size), scores, classes, evidence.labels, 1)

    return Candidate("tensorflow", [f"outputs {', '.join(map(repr, final))}, after suppression"], decode, 0.9)


def _raw(evidence: Evidence, names: Sequence[str]) -> Decode:
    def decode(op: Op) -> Proposals:
        boxes, scores = (find_value(op.graph, name) for name in names)
        # The first column is the background.
        return Proposals(to_pixels(op, rows_first(op, boxes), evidence.size), part(op, scores, 1), first_class=1)

    return decode
