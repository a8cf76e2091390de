"""YOLOv3 of the ONNX model zoo: boxes and scores of all proposals beside the indices of those that were kept.

Source: github.com/onnx/models, vision/object_detection_segmentation/yolov3. Boxes are y1, x1, y2, x2 in pixels of the
photo whose size is given as `image_shape`; given the input's own size, in pixels of the input.
"""

from collections.abc import Callable

from onnxsal.detectors.emit import rows_first
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, Shape, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("yolov3")
def yolov3(evidence: Evidence) -> Candidate | None:
    """Recognise (N, P, 4) beside (N, K, P) and rows of three indices, and an input `image_shape`."""
    boxes, scores = _find(evidence, lambda s: s[2] == 4), _find(evidence, lambda s: s[2] != 4 and s[2] != 3)
    if "image_shape" not in evidence.inputs or len(boxes) != 1 or len(scores) != 1:
        return None

    def decode(op: Op) -> Proposals:
        corners = rows_first(op, find_value(op.graph, boxes[0]))
        return Proposals(corners, op.Transpose(find_value(op.graph, scores[0]), perm=[0, 2, 1]))

    said = ["input `image_shape`", f"outputs {boxes[0]!r} (.., 4) and {scores[0]!r}, all proposals"]
    return Candidate("yolov3", said, decode, 0.9)


def _find(evidence: Evidence, fits: Callable[[Shape], bool]) -> list[str]:
    return [name for name, shape in evidence.outputs.items() if len(shape) == 3 and fits(shape)]
