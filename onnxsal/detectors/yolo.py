"""YOLOv5, v6 and v7 before suppression: (N, P, 5 + K), boxes by centre in pixels, objectness in the fifth column.

Sources: github.com/ultralytics/yolov5 (`models/yolo.py`, Detect), github.com/meituan/YOLOv6 (`effidehead.py`),
github.com/WongKinYiu/yolov7.
"""

from onnxsal.detectors.emit import column, from_centres, part
from onnxsal.detectors.registry import Candidate, Decode, Evidence, Proposals, decoder, listed
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value
from onnxsal.graph.flow import computed


@decoder("yolov5")
def yolov5(evidence: Evidence) -> Candidate | None:
    """Recognise 5 + K columns over three boxes for each cell; YOLOv7 without its end-to-end part has the same."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 6:
        return None
    strides = evidence.pyramid(shape[1], 3)
    if strides is None:
        return None
    said = [f"output {name!r} has {shape[1]} rows, three for each cell of strides {listed(strides)}"]
    said.append(f"{shape[2]} = 5 + {shape[2] - 5} columns")
    decode = _rows(name)
    return Candidate("yolov5", said, decode, _fit(evidence, shape[2] - 5, 0.9), evidence.levels(strides, 3))


@decoder("yolov6")
def yolov6(evidence: Evidence) -> Candidate | None:
    """Recognise 5 + K columns over the cells of the grids whose objectness is a constant 1."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 6:
        return None
    strides = evidence.pyramid(shape[1])
    if strides is None or not _has_constant_column(evidence, name):
        return None
    said = [f"output {name!r} has {shape[1]} rows, the cells of strides {listed(strides)}"]
    said.append("a column of them is the same for every image: an objectness of 1")
    return Candidate("yolov6", said, _rows(name), _fit(evidence, shape[2] - 5, 0.9), evidence.levels(strides))


def _rows(name: str) -> Decode:
    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        corners = from_centres(op, part(op, rows, 0, 2), part(op, rows, 2, 4))
        return Proposals(corners, part(op, rows, 5), column(op, rows, 4))

    return decode


def _has_constant_column(evidence: Evidence, name: str) -> bool:
    live = computed(evidence.model.graph)
    joins = evidence.behind(name, {"Concat"}, 3)
    return any(v is not None and v not in live for node in joins[:1] for v in node.inputs) and len(joins) > 0


def _fit(evidence: Evidence, classes: int, sure: float) -> float:
    """Return how sure a head is whose number of classes is known: less so if the labels are as many as others."""
    return sure if evidence.classes in (None, classes) else sure / 2
