"""What a head suppressed is found again in the graph, and D-RISE on it is D-RISE on the head before it suppressed."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from support.detector import CARD, squares

import onnxsal

PHOTO = squares((0, 8, 8), (2, 40, 32))

# Cells of stride 8 propose boxes of 16 pixels around their centres; p (1, 64, 3) says how much each is of a colour.
PROPOSALS = """
  pooled = AveragePool<kernel_shape=[8,8], strides=[8,8]>(images)
  columns = Reshape(pooled, rows)
  scaled = Mul(columns, gain)
  logits = Sub(scaled, edge)
  q = Sigmoid(logits)
  p = Transpose<perm=[0,2,1]>(q)
"""
# YOLOv10's end: the best class of each cell, then the best cells.
TOPK = """
  live = Mul(p, zero)
  some = ReduceSum<keepdims=1>(live, last)
  boxes = Add(some, corners)
  best = ReduceMax<axes=[2], keepdims=0>(p)
  values, index = TopK<axis=1>(best, ten)
  wide = Unsqueeze(index, last)
  wide4 = Expand(wide, four)
  wide3 = Expand(wide, three)
  b = GatherElements<axis=1>(boxes, wide4)
  s = GatherElements<axis=1>(p, wide3)
  label = ArgMax<axis=2, keepdims=1>(s)
  number = Cast<to=1>(label)
  score = Unsqueeze(values, last)
  output0 = Concat<axis=2>(b, score, number)
"""
# The classes as NonMaxSuppression wants them, y before x, and rows of photo, box, class, score, as YOLOv7 writes them.
NMS = """
  live = Mul(p, zero)
  some = ReduceSum<keepdims=1>(live, last)
  boxes = Add(some, swapped)
  kept = NonMaxSuppression(boxes, q, most, overlap, threshold)
  photo, class, place = Split<axis=1, num_outputs=3>(kept)
  flat = Squeeze(place, last)
  all = Squeeze(boxes, first)
  yx = Gather<axis=0>(all, flat)
  b = Gather<axis=1>(yx, turn)
  pairs = Concat<axis=1>(class, place)
  table = Squeeze(q, first)
  s = GatherND(table, pairs)
  score = Unsqueeze(s, last)
  number = Cast<to=1>(class)
  image = Cast<to=1>(photo)
  output = Concat<axis=1>(image, b, number, score)
"""


def centres() -> np.ndarray:
    y, x = np.mgrid[:8, :8]
    return np.stack([8 * x.ravel() + 4, 8 * y.ravel() + 4], axis=1).astype(np.float32)


def model(end: str, output: str) -> onnxsal.Model:
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    text = f"{header} d (float[1,3,64,64] images) => (float[{output}) {{ {PROPOSALS} {end} }}"
    proto = onnx.parser.parse_model(text.replace("<axes=[2], keepdims=0>(p)", "<keepdims=0>(p, last)"))
    c = centres()
    boxes = np.concatenate([c - 8, c + 8], axis=1)
    weights = {
        "rows": np.array([0, 3, -1]),
        "gain": np.float32(8),
        "edge": np.float32(4),
        "zero": np.float32(0),
        "last": np.array([-1]),
        "first": np.array([0]),
        "ten": np.array([10]),
        "four": np.array([1, 10, 4]),
        "three": np.array([1, 10, 3]),
        "turn": np.array([1, 0, 3, 2]),
        "most": np.array([10]),
        "overlap": np.array([0.5], np.float32),
        "threshold": np.array([0.3], np.float32),
        "corners": boxes[None],
        "swapped": boxes[None, :, [1, 0, 3, 2]],
    }
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items() if n in used)
    onnx.checker.check_model(proto, full_check=True)
    return onnxsal.load(proto, card=CARD)


HEADS = {"TopK": (TOPK, "1,10,6] output0"), "NonMaxSuppression": (NMS, "D,7] output")}


@pytest.mark.parametrize("head", HEADS)
def test_what_was_suppressed_is_found_again(head):
    loaded = model(*HEADS[head])
    found = loaded.detect(PHOTO)
    assert {d.label for d in found} == {"red", "blue"}
    explanation = loaded.explain(PHOTO, "d-rise", "red", samples=4)
    explanation = explanation[0] if isinstance(explanation, list) else explanation
    assert explanation.settings["head"] == "proposals before suppression"


def test_a_proposal_that_is_kept_under_two_classes_is_two_detections():
    """Suppression goes class by class: a square that is red, and a little less blue, is both."""
    photo = squares((0, 8, 8), (2, 8, 8))
    photo[..., 2] = photo[..., 2] * 0.8
    loaded = model(*HEADS["NonMaxSuppression"])
    found = loaded.detect(photo)
    want = classes_of(photo.transpose(2, 0, 1)[None].astype(np.float32) / 255).max(axis=0)
    sure = {label: max(d.score for d in found if d.label == label) for label in ("red", "blue")}
    assert sure == pytest.approx({"red": want[0], "blue": want[2]})
    blue = next(d for d in found if d.label == "blue")
    explained = loaded.explain(photo, "gradient", f"box:{blue.number}")
    assert not explained.attribution[0].any()  # the channel of red
    assert explained.attribution[2].any()


@pytest.mark.parametrize("head", HEADS)
def test_drise_sees_the_proposals_not_what_is_left_of_them(head):
    loaded = model(*HEADS[head])
    found = loaded.explain(PHOTO, "d-rise", "box:0", samples=40, seed=3, estimator="balanced")
    c = centres()
    boxes = np.concatenate([c - 8, c + 8], axis=1)
    x = PHOTO.transpose(2, 0, 1)[None].astype(np.float32) / 255
    masks = drawn(40, 3)
    row = np.abs(boxes - np.array(found.detection.box)).max(axis=1).argmin()
    own = classes_of(x)[row]
    weights = []
    for mask in masks:
        p = classes_of(mask * x)
        cosine = p @ own / np.linalg.norm(p, axis=1) / np.linalg.norm(own)
        overlap = np.array([iou(b, boxes[row]) for b in boxes])
        weights.append((overlap * cosine * p.max(axis=1)).max())
    weights = np.array(weights)
    slow = ((weights - weights.mean())[:, None, None] * masks).mean(axis=0) / 0.5 + weights.mean()
    assert_allclose(found.attribution, slow, atol=1e-5)


def drawn(count: int, seed: int) -> np.ndarray:
    from onnxsal.sampling.designs import Balanced
    from onnxsal.sampling.masks import rise_space

    space = rise_space((0, 0, 64, 64), (64, 64), (16, 16))
    return space.render(Balanced(space, seed).draw(0, count))


def classes_of(x: np.ndarray) -> np.ndarray:
    """Return (64, 3): how much each cell is of a colour."""
    pooled = x[0].reshape(3, 8, 8, 8, 8).mean(axis=(2, 4)).reshape(3, 64).T
    return 1 / (1 + np.exp(4 - 8 * pooled))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = sides.prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def test_where_nothing_fits_the_degraded_form_is_used_and_said():
    from support.heads import head

    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [8, 8, 24, 24, 0.9, 1]
    blind = onnxsal.load(head({"output0": rows}), card=CARD)
    found = blind.explain(PHOTO, "d-rise", samples=4)
    assert found.settings["head"] == "after suppression: the best class of each box only"


def test_a_head_that_has_not_suppressed_needs_no_peeling():
    from support.detector import detector

    found = onnxsal.load(detector(), card=CARD).explain(PHOTO, "d-rise", samples=4)
    assert found.settings["head"] == "proposals before suppression"
