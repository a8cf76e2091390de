"""NanoDet: (N, P, K + 4 * 8), class probabilities and a distribution over each side's distance.

Source: github.com/RangiLyu/nanodet, `nanodet_plus_head.py`: the distance is the mean of 0..7 under the softmax, in
strides, from the corner of the cell.
"""

import numpy as np

from onnxsal.detectors.emit import grid, part, side_distances
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

STRIDES = (8, 16, 32, 64)
BINS = 8


@decoder("nanodet")
def nanodet(evidence: Evidence) -> Candidate | None:
    """Recognise one output over the cells of four grids, or three, with 32 columns beside the classes."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(evidence.outputs) != 1 or len(shape) != 3 or not isinstance(shape[2], int):
        return None
    strides = next((s for s in (STRIDES, STRIDES[:3]) if shape[1] == evidence.cells(s)), None)
    classes = shape[2] - 4 * BINS
    fits = evidence.classes == classes or (evidence.classes is None and len(strides or ()) == 4)
    if strides is None or classes < 1 or not fits:
        return None

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        bins = op.Softmax(op.Reshape(part(op, rows, classes), [0, 0, 4, BINS]), axis=-1)
        distances = op.ReduceSum(op.Mul(bins, op.const(np.arange(BINS), rows.dtype)), axes=[3], keepdims=0)
        corners, scale = (op.const(a, rows.dtype) for a in grid(evidence.size, strides))
        sides = side_distances(op, op.Mul(corners, scale), op.Mul(distances, scale))
        return Proposals(sides, part(op, rows, 0, classes))

    said = [f"output {name!r} has {shape[1]} rows, the cells of strides {', '.join(map(str, strides))}"]
    said.append(f"{shape[2]} = {classes} + 4 * {BINS} columns")
    return Candidate("nanodet", said, decode, 0.85, evidence.levels(strides))
