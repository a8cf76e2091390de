"""How well each proposal on a masked photo matches a detection on the whole one, as ONNX operators.

In the graph, so that of ten thousand proposals a mask only one number per detection comes back.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.detectors.detections import Kind
from onnxsal.detectors.emit import part
from onnxsal.detectors.registry import Proposals
from onnxsal.graph.builder import Op
from onnxsal.graph.types import dims

TINY = 1e-12


def best_match(op: Op, proposals: Proposals, boxes: ir.Value, probabilities: ir.Value, kind: Kind) -> ir.Value:
    """Return the largest similarity of any proposal to each of T detections, (N, T), in [0, 1].

    Source: Petsiuk et al. 2021 (D-RISE), arXiv:2006.03204, eq. 1-5.

    Args:
        op: The builder.
        proposals: P proposals on each of N photos, before suppression.
        boxes: (T, 4), pixels of the model's input.
        probabilities: (T, K).
        kind: `d-rise`, IoU times cosine of class probabilities times objectness, and where the head has none, times
            the largest class probability: a cosine does not tell a sure proposal from an unsure one. `dot`, the inner
            product in place of the cosine. `hard`, IoU times the score of the detection's own class, all that is left
            to compare where a head tells the best class only. `vem`, as vision-explanation-methods 0.1.1: IoU times
            cosine times objectness, 1 where the head has none; where a head tells the best class only, what is left of
            1 is shared among the others and one more.
    """
    proposals = _with_nothing(op, proposals)
    overlap = _overlaps(op, proposals.boxes, boxes)
    agreement = _agreement(op, proposals, probabilities, kind)
    return op.ReduceMax(op.Mul(overlap, agreement), axes=[2], keepdims=0)


def _with_nothing(op: Op, proposals: Proposals) -> Proposals:
    """Add an empty box of no class where there may be no proposal at all, which has no maximum."""
    if isinstance((dims(proposals.boxes) or (None, None))[1], int):
        return proposals

    def longer(value: ir.Value, axes: int) -> ir.Value:
        return op.Pad(value, [0] * axes + [0, 1] + [0] * (axes - 2), op.scalar(0, like=value))

    objectness = None if proposals.objectness is None else longer(proposals.objectness, 2)
    boxes, probabilities = longer(proposals.boxes, 3), longer(proposals.probabilities, 3)
    return Proposals(boxes, probabilities, objectness, proposals.top_only)


# Proposals lie along the last axis: there are thousands, of few detections, and broadcasting runs along the last axis.


def _overlaps(op: Op, proposed: ir.Value, boxes: ir.Value) -> ir.Value:
    """Return the intersection over union of each proposal (N, P, 4) with each box (T, 4): (N, T, P)."""
    rows = op.Transpose(proposed, perm=[0, 2, 1])
    px1, py1, px2, py2 = (part(op, rows, i, i + 1, axis=1) for i in range(4))
    x1, y1, x2, y2 = (part(op, boxes, i, i + 1) for i in range(4))
    width = op.Relu(op.Sub(op.Min(px2, x2), op.Max(px1, x1)))
    height = op.Relu(op.Sub(op.Min(py2, y2), op.Max(py1, y1)))
    shared = op.Mul(width, height)
    areas = op.Mul(op.Relu(op.Sub(px2, px1)), op.Relu(op.Sub(py2, py1)))
    total = op.Add(areas, op.Mul(op.Sub(x2, x1), op.Sub(y2, y1)))
    return op.Div(shared, op.Max(op.Sub(total, shared), op.scalar(TINY, like=shared)))


def _agreement(op: Op, proposals: Proposals, probabilities: ir.Value, kind: Kind) -> ir.Value:
    """Return how well the classes of each proposal fit each detection, objectness included: (N, T, P)."""
    p = op.Transpose(proposals.probabilities, perm=[0, 2, 1])
    own = None if proposals.objectness is None else op.Unsqueeze(proposals.objectness, [1])
    if kind in ("hard", "dot"):
        product = op.MatMul(_top_class(op, probabilities) if kind == "hard" else probabilities, p)
        return product if own is None else op.Mul(product, own)
    if kind == "vem" and proposals.top_only:
        p, probabilities = _with_rest(op, p), _with_rest(op, probabilities)
    sure = own
    if sure is None:
        sure = op.scalar(1, like=p) if kind == "vem" else op.ReduceMax(p, axes=[1], keepdims=1)
    share = op.Div(sure, op.Max(op.ReduceL2(p, axes=[1], keepdims=1), op.scalar(TINY, like=p)))
    length = op.Max(op.ReduceL2(probabilities, axes=[1], keepdims=1), op.scalar(TINY, like=probabilities))
    return op.Mul(op.MatMul(op.Div(probabilities, length), p), share)


def _with_rest(op: Op, p: ir.Value) -> ir.Value:
    """Return probabilities (., K, ...), of the best class only, with what is left of 1 shared among K other classes.

    One class is new, at the end: `expand_class_scores` of vision-explanation-methods counts a background.
    """
    best = op.ReduceMax(p, axes=[1], keepdims=1)
    left = op.Div(op.Sub(op.scalar(1, like=p), best), op.cast(op.dim(p, 1), p.dtype))
    return op.Concat(op.Where(op.Greater(p, op.scalar(0, like=p)), p, left), left, axis=1)


def _top_class(op: Op, probabilities: ir.Value) -> ir.Value:
    """Return (T, K): 1 at each detection's likeliest class."""
    best = op.ArgMax(probabilities, axis=1, keepdims=1)
    classes = op.Range(np.int64(0), op.Squeeze(op.dim(probabilities, 1), [0]), np.int64(1))
    return op.cast(op.Equal(best, classes), probabilities.dtype)
