"""Ultralytics' heads: YOLOv8, v9, 11, 12, World before suppression; YOLOv10, YOLO26, `nms=True` after it; RT-DETR.

Their models of masks, key points and turned boxes add columns of their own, which come last. Source:
github.com/ultralytics/ultralytics, `nn/modules/head.py` (Detect, Segment, Pose, OBB), `engine/exporter.py` (NMSModel).
"""

from ast import literal_eval
from math import prod

import onnx_ir as ir

from onnxsal.detectors.emit import column, finished, from_centres, hull, part, to_pixels
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder, listed
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value


@decoder("ultralytics")
def ultralytics(evidence: Evidence) -> Candidate | None:
    """Recognise (N, 4 + K, P) over the cells of grids: boxes by centre in pixels, then class probabilities."""
    name, shape = next(iter(evidence.outputs.items()))
    strides = evidence.pyramid(shape[2]) if len(shape) == 3 else None
    if strides is None or not isinstance(shape[1], int) or shape[1] < 5:
        return None
    known, left = evidence.classes, shape[1] - 4 - extra_columns(evidence)
    classes = left if known is None or known > left else known
    said = [
        f"output {name!r} has {shape[2]} columns, the cells of strides {listed(strides)}",
        f"{shape[1]} rows, 4 + {classes}" + (f" + {shape[1] - 4 - classes}" if classes < shape[1] - 4 else ""),
        *_author(evidence),
    ]

    def decode(op: Op) -> Proposals:
        rows = op.Transpose(find_value(op.graph, name), perm=[0, 2, 1])
        angle = part(op, rows, -1) if _is_turned(evidence) else None
        return Proposals(_corners(op, rows, angle), part(op, rows, 4, 4 + classes))

    return Candidate("ultralytics", said, decode, 0.95 if evidence.by_ultralytics else 0.7, evidence.levels(strides))


@decoder("rows-of-6")
def rows_of_6(evidence: Evidence) -> Candidate | None:
    """Recognise (N, D, 6): x1, y1, x2, y2, score, class, as YOLOv10, YOLO26 and `nms=True` write it.

    Masks, key points and angles come behind it, and a turned box is written by its centre.
    """
    name, shape = next(iter(evidence.outputs.items()))
    extra = extra_columns(evidence)
    others = [other for other in evidence.outputs if other != name]
    if len(shape) != 3 or shape[2] != 6 + extra or (others and not extra) or evidence.cells() == shape[1]:
        return None
    if _is_rt_detr(evidence):
        return None
    what = "centre and size, score, class, angle" if _is_turned(evidence) else "corners, score, class"
    said = [f"output {name!r} has rows of {shape[2]}: {what}", *_author(evidence)]

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        boxes = _corners(op, rows, part(op, rows, 6, 7)) if _is_turned(evidence) else part(op, rows, 0, 4)
        return finished(op, boxes, column(op, rows, 4), column(op, rows, 5), evidence.labels)

    return Candidate("rows-of-6", said, decode, 0.9 if evidence.by_ultralytics else 0.6)


@decoder("rt-detr-rows")
def rt_detr_rows(evidence: Evidence) -> Candidate | None:
    """Recognise an RT-DETR: a box by centre as fractions of the input, then class probabilities, or score and class.

    The latter is what it writes since 8.4; (N, 300, 4 + K), the former, before.
    """
    name, shape = next(iter(evidence.outputs.items()))
    if not _is_rt_detr(evidence) or len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 5:
        return None
    final = shape[2] == 6 and evidence.classes != 2
    what = "score, class" if final else f"{shape[2] - 4} classes"
    said = [f"output {name!r} has rows of {shape[2]}: centre and size in 0..1, {what}", *_author(evidence)]

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        boxes = to_pixels(op, _corners(op, rows, None), evidence.size)
        if final:
            return finished(op, boxes, column(op, rows, 4), column(op, rows, 5), evidence.labels)
        return Proposals(boxes, part(op, rows, 4), distinct=True)

    return Candidate("rt-detr-rows", said, decode, 0.95)


def _corners(op: Op, rows: ir.Value, angle: ir.Value | None) -> ir.Value:
    centres, sizes = part(op, rows, 0, 2), part(op, rows, 2, 4)
    return from_centres(op, centres, sizes) if angle is None else hull(op, centres, sizes, angle)


def _is_rt_detr(evidence: Evidence) -> bool:
    """Tell an RT-DETR, whose attention samples maps as no YOLO does."""
    return evidence.by_ultralytics and "GridSample" in evidence.op_types


def _is_turned(evidence: Evidence) -> bool:
    return evidence.by_ultralytics and evidence.metadata.get("task") == "obb"


def extra_columns(evidence: Evidence) -> int:
    """Return how many columns come behind the classes: coefficients of masks, key points, an angle."""
    prototypes = [shape for shape in evidence.outputs.values() if len(shape) == 4]
    if len(evidence.outputs) == 2 and len(prototypes) == 1 and isinstance(prototypes[0][1], int):
        return int(prototypes[0][1])
    if _is_turned(evidence):
        return 1
    return _key_points(evidence.metadata.get("kpt_shape", "")) if evidence.by_ultralytics else 0


def _key_points(shape: str) -> int:
    """Return how many numbers key points of a shape such as `[17, 3]` are; 0 where it says none."""
    try:
        sizes = literal_eval(shape)
    except (ValueError, SyntaxError):
        return 0
    return prod(sizes) if isinstance(sizes, list | tuple) and all(isinstance(size, int) for size in sizes) else 0


def _author(evidence: Evidence) -> list[str]:
    return ["metadata: author Ultralytics"] if evidence.by_ultralytics else []
