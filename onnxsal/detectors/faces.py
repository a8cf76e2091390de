"""Face detectors beside UltraFace: SCRFD, RetinaFace, YuNet. One class, the face."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxsal.detectors.emit import Floats, column, from_centres, grid, part, side_distances, to_pixels, with_batch
from onnxsal.detectors.registry import STRIDES, Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

# ----- SCRFD -----


@decoder("scrfd")
def scrfd(evidence: Evidence) -> Candidate | None:
    """Recognise a score and four distances per anchor for each of three or five grids, landmarks perhaps beside them.

    Source: github.com/deepinsight/insightface, detection/scrfd (InsightFace's `scrfd.py`): distances are in strides,
    from the corner of the cell; two anchors a cell where there are three grids, one where there are five.
    """
    by_width: dict[object, list[str]] = {}
    for name, shape in evidence.outputs.items():
        by_width.setdefault(shape[-1] if len(shape) in (2, 3) else None, []).append(name)
    scores, boxes = by_width.get(1, []), by_width.get(4, [])
    if set(by_width) - {1, 4, 10} or len(scores) != len(boxes) or len(scores) not in (3, 5):
        return None
    strides, anchors = (STRIDES, 2) if len(scores) == 3 else ((*STRIDES, 64, 128), 1)
    said = [f"{len(scores)} outputs of one column and as many of four, for strides {', '.join(map(str, strides))}"]

    def decode(op: Op) -> Proposals:
        values = [[with_batch(op, find_value(op.graph, n), 3) for n in names] for names in (scores, boxes)]
        confidence, distances = (op.Concat(*v, axis=1) for v in values)
        corners, scale = _anchors(op, evidence.size, strides, anchors, distances.dtype)
        sides = side_distances(op, op.Mul(corners, scale), op.Mul(distances, scale))
        return Proposals(sides, confidence)

    return Candidate("scrfd", said, decode, 0.8, evidence.levels(strides, anchors), _is_flat(evidence, scores))


def _anchors(
    op: Op, size: tuple[int, int], strides: Sequence[int], count: int, dtype: ir.DataType | None
) -> tuple[ir.Value, ir.Value]:
    """Return corners of cells in strides, and the strides, each as often as a cell has anchors."""
    corners, scale = (op.const(np.repeat(a, count, axis=0), dtype) for a in grid(size, strides))
    return corners, scale


def _is_flat(evidence: Evidence, names: Sequence[str]) -> bool:
    return any(len(evidence.outputs[name]) == 2 for name in names)


# ----- RetinaFace -----

MIN_SIZES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)


@decoder("retinaface")
def retinaface(evidence: Evidence) -> Candidate | None:
    """Recognise (N, P, 4) offsets, (N, P, 2) background and face, and (N, P, 10) landmarks over two priors a cell.

    Source: github.com/biubug6/Pytorch_Retinaface, `layers/functions/prior_box.py`, `utils/box_utils.py`.
    """
    widths = {shape[2]: name for name, shape in evidence.outputs.items() if len(shape) == 3}
    if set(widths) != {2, 4, 10} or evidence.outputs[widths[4]][1] != 2 * evidence.cells():
        return None

    def decode(op: Op) -> Proposals:
        offsets, scores = find_value(op.graph, widths[4]), find_value(op.graph, widths[2])
        centres, sizes = (op.const(a, offsets.dtype) for a in _priors(evidence.size))
        moved = op.Add(centres, op.Mul(part(op, offsets, 0, 2), op.Mul(sizes, op.scalar(VARIANCES[0], like=offsets))))
        grown = op.Mul(sizes, op.Exp(op.Mul(part(op, offsets, 2, 4), op.scalar(VARIANCES[1], like=offsets))))
        corners = to_pixels(op, from_centres(op, moved, grown), evidence.size)
        return Proposals(corners, part(op, scores, 1), first_class=1)

    said = ["outputs of 4, 2 and 10 columns over two boxes for each cell of strides 8, 16 and 32"]
    return Candidate("retinaface", said, decode, 0.85, evidence.levels(STRIDES, 2))


def _priors(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return centres and sizes (P, 2) of the priors, as fractions of the input."""
    whole = np.array([size[1], size[0]], np.float32)
    centres, sizes = [], []
    for stride, sides in zip(STRIDES, MIN_SIZES, strict=True):
        corners, _ = grid(size, (stride,))
        centres.append(np.repeat((corners + 0.5) * stride / whole, len(sides), axis=0))
        sizes.append(np.tile(np.array(sides, np.float32)[:, None] / whole, (len(corners), 1)))
    return np.concatenate(centres), np.concatenate(sizes)


# ----- YuNet -----


@decoder("yunet")
def yunet(evidence: Evidence) -> Candidate | None:
    """Recognise `cls_8`, `obj_8`, `bbox_8` and so on.

    Source: github.com/opencv/opencv, `modules/objdetect/src/face_detect.cpp`: an offset within the cell and logarithms
    of sizes, in strides; the score is the root of the product of both, cut to 0..1.
    """
    if not all(evidence.has(f"{what}_{s}") for what in ("cls", "obj", "bbox") for s in STRIDES):
        return None

    def decode(op: Op) -> Proposals:
        classes, objects, offsets = (
            op.Concat(*[with_batch(op, find_value(op.graph, f"{what}_{s}"), 3) for s in STRIDES], axis=1)
            for what in ("cls", "obj", "bbox")
        )
        corners, scale = (op.const(a, offsets.dtype) for a in grid(evidence.size, STRIDES))
        centres = op.Mul(op.Add(part(op, offsets, 0, 2), corners), scale)
        sizes = op.Mul(op.Exp(part(op, offsets, 2, 4)), scale)
        return Proposals(from_centres(op, centres, sizes), _root(op, classes), _root(op, column(op, objects, 0)))

    return Candidate("yunet", ["outputs `cls_8`, `obj_8`, `bbox_8`, ..."], decode, 0.95, evidence.levels())


def _root(op: Op, value: ir.Value) -> ir.Value:
    """Return the root of a value cut to 0..1. That of 0 itself has no finite gradient."""
    return op.Sqrt(op.Max(op.Min(value, op.scalar(1, like=value)), op.scalar(1e-12, like=value)))
