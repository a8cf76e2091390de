"""D-RISE against a slow rewrite from the paper, on a detector whose answers are known."""

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.detector import CARD, detector, squares

import onnxsal
from onnxsal.errors import DetectorError, MethodError, TargetError
from onnxsal.sampling.designs import Independent
from onnxsal.sampling.masks import rise_space

PHOTO = squares((0, 8, 8), (2, 40, 32))


@pytest.fixture(scope="module")
def model():
    return onnxsal.load(detector(), card=CARD)


def proposals(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes, probabilities and objectness of one image, decoded cell by cell as YOLOX is."""
    session = onnxruntime.InferenceSession(detector().SerializeToString(), providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"images": x})[0]
    cells = [(i % (64 // s), i // (64 // s), s) for s in (8, 16, 32) for i in range((64 // s) ** 2)]
    boxes = []
    for (dx, dy, w, h), (column, row, s) in zip(rows[:, :4], cells, strict=True):
        centre, size = np.array([dx + column, dy + row]) * s, np.exp([w, h]) * s
        boxes.append([*(centre - size / 2), *(centre + size / 2)])
    return np.array(boxes), rows[:, 5:], rows[:, 4]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def slow_similarity(box: np.ndarray, classes: np.ndarray, x: np.ndarray) -> float:
    """Return the largest of IoU * cosine * objectness over all proposals on x."""
    best = 0.0
    for proposed, probabilities, objectness in zip(*proposals(x), strict=True):
        cosine = probabilities @ classes / np.linalg.norm(probabilities) / np.linalg.norm(classes)
        best = max(best, overlap(proposed, box) * cosine * objectness)
    return best


def test_the_squares_are_detected(model):
    found = model.detect(PHOTO)
    assert [d.number for d in found] == list(range(len(found)))
    assert {d.label for d in found} == {"red", "blue"}
    assert all(d.score > 0.9 for d in found)


def test_drise_is_the_mean_of_similarity_times_mask(model):
    settings = {"samples": 60, "cells": 6, "seed": 2, "estimator": "paper"}
    found = model.explain(PHOTO, "d-rise", "all", **settings)
    x = PHOTO.transpose(2, 0, 1)[None].astype(np.float32) / 255
    space = rise_space((0, 0, 64, 64), (64, 64), (6, 6))
    masks = space.render(Independent(space, 2, 0.5).draw(0, 60))
    boxes, probabilities, objectness = proposals(x)
    for explanation in found:
        box = np.array(explanation.detection.box)
        row = np.argmin(np.abs(boxes - box).sum(axis=1) - (objectness * probabilities.max(axis=1)) * 1e-3)
        weights = np.array([slow_similarity(boxes[row], probabilities[row], mask * x) for mask in masks])
        slow = (weights[:, None, None] * masks).mean(axis=0) / 0.5
        assert_allclose(explanation.attribution, slow, atol=2e-6)


def test_the_heat_is_on_the_square(model):
    for explanation in model.explain(PHOTO, "d-rise", "all", samples=600, cells=8):
        x1, y1, x2, y2 = (round(side) for side in explanation.detection.box)
        share = explanation.heatmap[y1:y2, x1:x2].sum() / explanation.heatmap.sum()
        assert share > 3 * (x2 - x1) * (y2 - y1) / 64**2


def test_all_detections_share_their_runs(model):
    told = []
    loop = onnxsal.LoopOptions(progress=told.append)
    everything = model.explain(PHOTO, "d-rise", "all", samples=40, loop=loop, batch_size=40)
    assert len(told) == 1
    alone = model.explain(PHOTO, "d-rise", "box:1", samples=40)
    assert_array_equal(everything[1].attribution, alone.attribution)


def test_targets_choose_detections(model):
    quick = {"samples": 4}
    count = len(model.detect(PHOTO))
    assert len(model.explain(PHOTO, "d-rise", "all", **quick)) == count
    assert model.explain(PHOTO, "d-rise", **quick).target.text == "box:0"
    blue = model.explain(PHOTO, "d-rise", "blue", **quick)
    assert all(e.detection.label == "blue" for e in (blue if isinstance(blue, list) else [blue]))
    with pytest.raises(TargetError, match="no green is detected; detected are box:0"):
        model.explain(PHOTO, "d-rise", "green", **quick)
    with pytest.raises(TargetError, match="there is no box:99; detected are box:0"):
        model.explain(PHOTO, "d-rise", "box:99", **quick)
    with pytest.raises(TargetError, match="nothing is detected with a score of 0.3 or more"):
        model.explain(np.zeros_like(PHOTO), "d-rise", **quick)


def test_boxes_come_in_pixels_of_the_photo():
    letterboxed = onnxsal.load(detector(), card=CARD | {"resize": "letterbox", "pad_value": 0})
    photo = np.kron(PHOTO[:32], np.ones((2, 2, 1), np.uint8))
    found = letterboxed.detect(photo)
    red = next(d for d in found if d.label == "red")
    # Twice as large as in the model's input; the square is (16, 16, 48, 48), a proposal at most a cell beside it.
    assert_allclose(red.box, (16, 16, 48, 48), atol=8)
    assert red.box[2] - red.box[0] == pytest.approx(32)
    picture = letterboxed.explain(photo, "d-rise", f"box:{red.number}", samples=4).overlay()
    assert picture.size == (128, 64)


@pytest.mark.parametrize("batch", ["N", "3"], ids=["a free batch", "a batch of three"])
def test_a_model_of_another_batch_gives_the_same_maps(model, batch):
    free = onnxsal.load(detector(batch=batch), card=CARD)
    for one, other in zip(*(m.explain(PHOTO, "d-rise", "all", samples=50) for m in (model, free)), strict=True):
        assert_allclose(one.attribution, other.attribution, atol=1e-6)


def test_unknown_decoders_and_classifiers_are_refused(model):
    with pytest.raises(DetectorError, match="no decoder 'yolo99'; there are"):
        model.detect(PHOTO, decoder="yolo99")
    with pytest.raises(DetectorError, match="decoder 'ultraface' finds nothing to decode"):
        model.detect(PHOTO, decoder="ultraface")
    with pytest.raises(MethodError, match="samples=0"):
        model.explain(PHOTO, "d-rise", samples=0)
