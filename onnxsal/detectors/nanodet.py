"""NanoDet: (N, P, K + 4 * 8), class probabilities and a distribution over each side's distance.

Source: github.com/RangiLyu/nanodet, `nanodet_plus_head.py`: the distance is the mean of 0..7 under the softmax, in
strides, from the corner of the cell. Before NanoDet-Plus (`gfl_head.py`) there were three grids, distances from the
middle of the cell, and in some models up to 10.
"""

import numpy as np

from onnxsal.detectors.emit import grid, part, side_distances
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

STRIDES = (8, 16, 32, 64)
BINS = (8, 11)
"""How many distances a side may have: of NanoDet-Plus and most before it; of those on EfficientNet-Lite and RepVGG."""


@decoder("nanodet")
def nanodet(evidence: Evidence) -> Candidate | None:
    """Recognise one output over the cells of four grids, or three, with 32 columns beside the classes."""
    name, shape = next(iter(evidence.outputs.items()))
    if len(evidence.outputs) != 1 or len(shape) != 3 or not isinstance(shape[2], int):
        return None
    strides = next((s for s in (STRIDES, STRIDES[:3]) if shape[1] == evidence.cells(s)), None)
    bins = next((b for b in BINS if evidence.classes == shape[2] - 4 * b), BINS[0])
    classes = shape[2] - 4 * bins
    fits = evidence.classes == classes or (evidence.classes is None and len(strides or ()) == 4)
    if strides is None or classes < 1 or not fits:
        return None
    inset = 0 if len(strides) == 4 else 0.5

    def decode(op: Op) -> Proposals:
        rows = find_value(op.graph, name)
        likely = op.Softmax(op.Reshape(part(op, rows, classes), [0, 0, 4, bins]), axis=-1)
        distances = op.ReduceSum(op.Mul(likely, op.const(np.arange(bins), rows.dtype)), axes=[3], keepdims=0)
        corners, scale = grid(evidence.size, strides)
        centres, widths = op.const((corners + inset) * scale, rows.dtype), op.const(scale, rows.dtype)
        sides = side_distances(op, centres, op.Mul(distances, widths))
        return Proposals(sides, part(op, rows, 0, classes))

    said = [f"output {name!r} has {shape[1]} rows, the cells of strides {', '.join(map(str, strides))}"]
    said.append(f"{shape[2]} = {classes} + 4 * {bins} columns, distances from the {'middle' if inset else 'corner'}")
    return Candidate("nanodet", said, decode, 0.85, evidence.levels(strides))
