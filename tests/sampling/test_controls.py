"""What is taken off the scores, against its definition, written out slowly."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnxsal.sampling.controls import MOST_PARTS, PENALTIES, Parts, Regression, part_counts
from onnxsal.sampling.designs import Balanced, First, Independent
from onnxsal.sampling.estimate import estimate
from onnxsal.sampling.masks import Draws, MaskSpace, feature_space, rise_space

SPACE = rise_space((2, 0, 14, 9), (9, 16), (3, 3))


def pooled(space: MaskSpace, masks: np.ndarray) -> np.ndarray:
    """Return the means over the parts of the photo: 4 x 4, of 12 x 9 pixels that begin at column 2."""
    tall = np.repeat(masks[:, :, 2:14], 4, axis=1)  # a part is 2.25 pixels high: 9 quarters
    parts = tall.reshape(len(masks), 4, 9, 4, 3).mean(axis=(2, 4))
    return parts.reshape(len(masks), -1)


def every_mask(space: MaskSpace, keep: float) -> tuple[Draws, np.ndarray]:
    """Return all masks there are, and how likely each is."""
    s, t = space.grid
    cells = np.array(list(product((0, 1), repeat=s * t)), np.float32).reshape(-1, s, t)
    chance = (keep ** cells.sum(axis=(1, 2))) * (1 - keep) ** (1 - cells).sum(axis=(1, 2))
    y, x = (i.ravel() for i in np.mgrid[: len(space.rows), : len(space.columns)])
    draws = Draws(np.tile(cells, (len(y), 1, 1)), np.repeat(y, len(cells)), np.repeat(x, len(cells)))
    return draws, np.tile(chance, len(y)) / len(y)


@pytest.mark.parametrize("keep", [0.5, 0.2])
def test_the_map_of_what_is_taken_off_is_its_mean_over_every_mask_there_is(keep, rng):
    draws, chance = every_mask(SPACE, keep)
    masks, parts = SPACE.render(draws).astype(np.float64), Parts(SPACE)
    slopes = rng.standard_normal(16)
    kept = parts.of(draws, keep)
    assert_allclose(kept, pooled(SPACE, masks) - keep, atol=1e-6)
    slow = np.tensordot(chance * (kept @ slopes), masks, 1) / keep
    assert_allclose(parts.expected(slopes, keep), slow, atol=1e-6)


@pytest.mark.parametrize("count", [60, 61])
def test_regression_foresees_each_pair_from_the_others(count):
    draws = Independent(SPACE, 0, 0.4).draw(0, count)
    masks = SPACE.render(draws).astype(np.float64)
    kept = pooled(SPACE, masks) - 0.4
    scores = np.exp(2 * kept[:, 5]) + kept[:, 2] ** 2
    controlled = Regression(SPACE, draws, 0.4)(scores)
    penalties = PENALTIES * np.trace(kept.T @ kept) / 16
    residuals, slopes = min((slow_fit(kept, scores - scores.mean(), p) for p in penalties), key=lambda f: f[0].var())
    assert residuals.var() < 0.5 * scores.var()
    assert_allclose(controlled.residuals, residuals - residuals.mean(), rtol=1e-6, atol=1e-9)
    level = scores.mean() + residuals.mean()
    # An odd mask out counts as half a pair.
    assert_allclose(controlled.expected, level + Parts(SPACE).expected(slopes, 0.4), rtol=1e-3 if count % 2 else 1e-6)


def slow_fit(kept: np.ndarray, scores: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return residuals and the mean of the slopes, each pair left out in turn."""
    residuals, slopes = np.zeros(len(scores)), []
    for pair in np.split(np.arange(len(scores)), np.arange(2, len(scores), 2)):
        others = np.setdiff1d(np.arange(len(scores)), pair)
        gram = kept[others].T @ kept[others] + penalty * np.eye(kept.shape[1])
        slope = np.linalg.solve(gram, kept[others].T @ scores[others])
        residuals[pair] = scores[pair] - kept[pair] @ slope
        slopes += [slope] * len(pair)
    return residuals, np.mean(slopes, axis=0)


@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_a_score_that_is_linear_in_the_parts_leaves_next_to_nothing_to_chance(keep, rng):
    slopes = rng.standard_normal(16)
    truth = 2 + Parts(SPACE).expected(slopes, keep)
    design = Balanced(SPACE, 0) if keep == 0.5 else Independent(SPACE, 0, keep)
    draws = design.draw(0, 400)
    scores = 2 + (pooled(SPACE, SPACE.render(draws).astype(np.float64)) - keep) @ slopes
    found = estimate(SPACE, draws, scores, keep, Regression(SPACE, draws, keep))
    inside = SPACE.outside == 0
    assert np.abs(found.mean - truth)[inside].max() < 0.01 * np.ptp(truth[inside])


def test_of_samples_that_are_no_images_each_entry_is_a_part(rng):
    space, slopes = feature_space((1, 30), 1), rng.standard_normal(30)
    draws = Independent(space, 0, 0.3).draw(0, 500)
    found = estimate(space, draws, space.render(draws)[:, 0] @ slopes, 0.3, Regression(space, draws, 0.3))
    # E[score | entry kept] - E[score] is the entry's slope times what else would hide it.
    assert_allclose(found.mean[0], 0.3 * slopes.sum() + 0.7 * slopes, atol=0.02 * np.ptp(slopes))


def test_where_nothing_can_be_foreseen_scores_are_centred(rng):
    draws = Independent(SPACE, 0, 0.5).draw(0, 300)
    scores = rng.standard_normal(300)
    controlled = Regression(SPACE, draws, 0.5)(scores)
    if np.ndim(controlled.expected) == 0:
        assert_allclose(controlled.residuals, scores - scores.mean())
    assert controlled.residuals.var() <= scores.var() * 1.001


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_a_few_masks_and_scores_that_never_change_give_a_finite_map(count):
    draws = Balanced(SPACE, 0).draw(0, count)
    for scores in (np.full(count, 0.25), np.linspace(0, 1, count)):
        found = estimate(SPACE, draws, scores, 0.5, Regression(SPACE, draws, 0.5))
        assert np.isfinite(found.mean).all()
    flat = estimate(SPACE, draws, np.full(count, 0.25), 0.5, Regression(SPACE, draws, 0.5))
    assert_allclose(flat.mean, 0.25)


@pytest.mark.parametrize(
    ("space", "counts"),
    [
        (rise_space((0, 0, 224, 224), (224, 224), (7, 7)), (8, 8)),
        (rise_space((0, 0, 416, 312), (416, 416), (16, 16)), (17, 17)),
        (feature_space((1, 286), 1), (1, 286)),
        (feature_space((100, 9), 20), (21, 9)),
        (feature_space((50, 6), 50), (50, 6)),
        (feature_space((1, 5000), 1), (1, 313)),
        (rise_space((0, 0, 60, 60), (60, 60), (30, 30)), (16, 16)),
    ],
)
def test_there_are_as_many_parts_as_cells_can_show_in_but_not_too_many(space, counts):
    assert part_counts(space) == counts
    assert np.prod(counts) <= MOST_PARTS


def test_masks_a_part_at_a_time_are_those_together(monkeypatch, rng):
    space = rise_space((0, 0, 12, 9), (9, 12), (3, 3))
    design, scores = Independent(space, 0, 0.4), rng.random(301)
    together = estimate(space, design.draw(0, 301), scores, 0.4, Regression(space, design.draw(0, 301), 0.4))
    monkeypatch.setattr("onnxsal.sampling.designs.PART", 64)
    for held in (0, 1 << 20):
        monkeypatch.setattr("onnxsal.sampling.designs.HELD", held)
        monkeypatch.setattr("onnxsal.sampling.controls.HELD", held)
        first = First(design, 301)
        assert [part.stop for part, _ in first.parts()] == [64, 128, 192, 256, 301]
        found = estimate(space, first, scores, 0.4, Regression(space, first, 0.4))
        assert_allclose(found.mean, together.mean, rtol=1e-9)
        assert_allclose(found.error, together.error, rtol=1e-5)
