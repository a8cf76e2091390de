"""UltraFace: `scores` (N, P, 2), background and face, and `boxes` (N, P, 4), corners in 0..1, priors decoded.

Source: github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB.
"""

import numpy as np

from onnxsal.detectors.emit import part
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoder
from onnxsal.graph.builder import Op
from onnxsal.graph.find import find_value

ANCHORS = ((8, 3), (16, 2), (32, 2), (64, 3))
"""Strides of the grids, and how many boxes a cell has."""


@decoder("ultraface")
def ultraface(evidence: Evidence) -> Candidate | None:
    """Recognise `scores` with two columns beside `boxes` with four."""
    if set(evidence.outputs) != {"scores", "boxes"}:
        return None
    scores, boxes = evidence.outputs["scores"], evidence.outputs["boxes"]
    if len(scores) != 3 or len(boxes) != 3 or scores[2] != 2 or boxes[2] != 4:
        return None
    height, width = evidence.size

    def decode(op: Op) -> Proposals:
        fractions = find_value(op.graph, "boxes")
        corners = op.Mul(fractions, op.const(np.array([width, height] * 2), fractions.dtype))
        # The background is what is left over, and no class.
        return Proposals(corners, part(op, find_value(op.graph, "scores"), 1, 2), first_class=1)

    sizes = [evidence.levels((stride,), anchors)[0] for stride, anchors in ANCHORS]
    levels = sizes if sum(count for *_, count in sizes) == scores[1] else []
    return Candidate("ultraface", ["outputs `scores` (.., 2) and `boxes` (.., 4)"], decode, 0.9, levels)
