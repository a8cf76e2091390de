"""YOLOv5, v6 and v7 before suppression: (N, P, 5 + K), boxes by centre in pixels, objectness in the fifth column.

Sources: github.com/ultralytics/yolov5 (`models/yolo.py`, Detect), github.com/meituan/YOLOv6 (`effidehead.py`),
github.com/WongKinYiu/yolov7.
"""

from onnxsal.detectors.emit import column, from_centres, part
from onnxsal.detectors.registry import Candidate, Decode, Evidence, Proposals, decoder, listed
from onnxsal.detectors.ultralytics import extra_columns
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value
from onnxsal.graph.flow import computed
from onnxsal.graph.types import dims


@decoder("yolov5")
def yolov5(evidence: Evidence) -> Candidate | None:
    """Recognise 5 + K columns over three boxes for each cell; YOLOv7 without its end-to-end part has the same."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 6:
        return None
    strides, extra = evidence.pyramid(shape[1], 3), extra_columns(evidence)
    classes = shape[2] - 5 - extra
    if strides is None or classes < 1:
        return None
    said = [f"output {name!r} has {shape[1]} rows, three for each cell of strides {listed(strides)}"]
    said.append(f"{shape[2]} = 5 + {classes}" + (f" + {extra}" if extra else "") + " columns")
    decode = _rows(name, classes)
    return Candidate("yolov5", said, decode, _fit(evidence, classes, 0.9), evidence.levels(strides, 3))


@decoder("yolov6")
def yolov6(evidence: Evidence) -> Candidate | None:
    """Recognise 5 + K columns over the cells of the grids whose objectness is a constant 1."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 6:
        return None
    strides = evidence.pyramid(shape[1])
    if strides is None or not _has_constant_column(evidence, name, shape[2]):
        return None
    said = [f"output {name!r} has {shape[1]} rows, the cells of strides {listed(strides)}"]
    said.append("a column of them is the same for every image: an objectness of 1")
    return Candidate(
        "yolov6", said, _rows(name, shape[2] - 5), _fit(evidence, shape[2] - 5, 0.9), evidence.levels(strides)
    )


def _rows(name: str, classes: int) -> Decode:
    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        corners = from_centres(op, part(op, rows, 0, 2), part(op, rows, 2, 4))
        return Proposals(corners, part(op, rows, 5, 5 + classes), column(op, rows, 4))

    return decode


def _has_constant_column(evidence: Evidence, name: str, columns: int) -> bool:
    """Tell whether the output is joined from columns one of which no image changes."""
    live = computed(evidence.model.graph)
    joins = [n for n in evidence.behind(name, {"Concat"}, 3) if (dims(n.outputs[0]) or (0,))[-1] == columns]
    single = [v for node in joins[:1] for v in node.inputs if v is not None and (dims(v) or (0,))[-1] == 1]
    return any(v not in live for v in single)


def _fit(evidence: Evidence, classes: int, sure: float) -> float:
    """Return how sure a head is whose number of classes is known: less so if the labels are as many as others."""
    return sure if evidence.classes in (None, classes) else sure / 2
