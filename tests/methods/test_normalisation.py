"""Maps of random masks in other units, and of other scores, against adding the masks up one by one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from support.detector import CARD, detector, squares
from support.explainable import loaded, random_input, run

import onnxsal
from onnxsal.errors import MethodError
from onnxsal.sampling.designs import Independent
from onnxsal.sampling.masks import rise_space

COUNT, KEEP, SEED = 120, 0.3, 2
QUICK = {"samples": COUNT, "keep": KEEP, "seed": SEED, "cells": 4}


def drawn(edges: str = "bilinear") -> np.ndarray:
    space = rise_space((0, 0, 12, 12), (12, 12), (4, 4), edges)
    return space.render(Independent(space, SEED, KEEP).draw(0, COUNT)).astype(np.float64)


def outputs(x: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the logits of class 1 of the images under masks."""
    return run("small", (x * masks[:, None]).astype(np.float32))[:, 1].astype(np.float64)


def explain(x: np.ndarray, **settings: object) -> onnxsal.Explanation:
    return loaded("small").explain(x, "rise", 1, batch_size=40, **QUICK | settings)


@pytest.mark.parametrize("normalisation", ["keep", "samples", "masks", "none", "min-max"])
@pytest.mark.parametrize("estimator", ["paper", "centred"])
def test_maps_come_in_the_units_asked_for(normalisation, estimator):
    x = random_input("small", 1)
    found = explain(x, estimator=estimator, normalisation=normalisation, score="output")
    masks = drawn()
    scores = outputs(x, masks)
    offset = scores.mean() if estimator == "centred" else 0.0
    total = np.tensordot(scores - offset, masks, 1)
    by_keep = total / COUNT / KEEP + offset
    slow = {
        "keep": by_keep,
        "samples": by_keep * KEEP,
        "none": by_keep * KEEP * COUNT,
        "masks": np.tensordot(scores, masks, 1) / masks.sum(axis=0),
        "min-max": (by_keep - by_keep.min()) / np.ptp(by_keep),
    }[normalisation]
    assert_allclose(found.attribution, slow, rtol=1e-4, atol=1e-5 * np.abs(slow).max())


@pytest.mark.parametrize("normalisation", ["samples", "none", "min-max"])
def test_the_error_comes_in_the_units_of_the_map_and_the_picture_stays(normalisation):
    x = random_input("small", 1)
    plain, other = explain(x), explain(x, normalisation=normalisation)
    factor = np.ptp(other.attribution) / np.ptp(plain.attribution)
    assert_allclose(other.error, plain.error * factor, rtol=1e-4)
    if normalisation != "min-max":
        assert_allclose(other.heatmap, plain.heatmap, atol=1e-4)
    else:
        assert_allclose(other.heatmap, other.attribution, atol=1e-6)


def test_a_map_that_is_flat_scales_to_zero():
    model = onnxsal.load(lambda rows: np.ones((len(rows), 2)))
    found = model.explain(np.arange(5.0), "rise", samples=50, normalisation="min-max", estimator="centred")
    assert (found.attribution == 0).all()


@pytest.mark.parametrize("score", ["probability", "output", "sigmoid"])
def test_the_score_is_what_was_asked_for(score):
    x = random_input("small", 1)
    found = explain(x, estimator="paper", score=score)
    masks = drawn()
    logits = run("small", (x * masks[:, None]).astype(np.float32)).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = {
        "probability": powers[:, 1] / powers.sum(axis=1),
        "output": logits[:, 1],
        "sigmoid": 1 / (1 + np.exp(-logits[:, 1])),
    }[score]
    assert_allclose(found.attribution, np.tensordot(scores, masks, 1) / COUNT / KEEP, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("edges", ["bilinear", "padded", "nearest"])
def test_the_masks_that_a_model_sees_are_those_that_are_added_up(edges):
    x = random_input("small", 1)
    masks = drawn(edges)
    slow = np.tensordot(outputs(x, masks), masks, 1) / COUNT / KEEP
    found = explain(x, edges=edges, estimator="paper", score="output")
    assert_allclose(found.attribution, slow, rtol=1e-4, atol=1e-5)
    assert (set(np.unique(masks)) == {0, 1}) == (edges == "nearest")


@pytest.mark.parametrize("edges", ["bilinear", "padded", "nearest"])
def test_every_pixel_is_kept_as_often_as_its_cells(edges):
    space = rise_space((0, 0, 30, 23), (23, 30), (7, 5), edges)
    masks = space.render(Independent(space, 0, KEEP).draw(0, 4000))
    assert np.abs(masks.mean(axis=0) - KEEP).max() < 5 * np.sqrt(KEEP * (1 - KEEP) / 4000)


def test_a_features_masks_may_have_hard_edges():
    model = onnxsal.load(lambda rows: rows.sum(axis=(1, 2)))
    found = model.explain(np.ones((12, 2), np.float32), "rise", samples=64, cells=4, edges="nearest")
    assert found.attribution.shape == (12, 2)
    assert np.isfinite(found.attribution).all()


def test_min_max_looks_at_the_photo_not_at_its_frame():
    letterboxed = onnxsal.load(detector(), card=CARD | {"resize": "letterbox", "pad_value": 0})
    photo = squares((0, 8, 8), (2, 40, 8))[:32]
    found = letterboxed.explain(photo, "d-rise", "box:0", samples=80, like="vem")
    inside = found.attribution[16:48]
    assert (inside.min(), inside.max()) == (0, 1)
    assert (found.attribution[:16] == 0).all()
    assert (found.attribution[48:] == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalisation": "sum"}, "normalisation='sum' is not keep or samples or masks or none or min-max"),
        ({"edges": "cubic"}, "edges='cubic' is not bilinear or padded or nearest"),
        ({"score": "logit"}, "score='logit' is not probability or output or sigmoid"),
    ],
)
def test_units_edges_and_scores_that_there_are_not_are_refused(settings, message):
    with pytest.raises(MethodError, match=message):
        explain(random_input("small", 1), **settings)
