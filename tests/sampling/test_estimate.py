"""The map against its definition, its error against the truth."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnxsal.sampling.controls import Regression, centred, plain
from onnxsal.sampling.designs import Balanced, Independent
from onnxsal.sampling.estimate import Estimate, estimate
from onnxsal.sampling.masks import rise_space

SPACE = rise_space((0, 0, 32, 24), (24, 32), (5, 5))


def score(masks: np.ndarray) -> np.ndarray:
    """Return how sure a model is that sees the masked image: of two places, the one it needs and one it likes."""
    needed, liked = masks[:, 4:10, 4:10].mean(axis=(1, 2)), masks[:, 14:20, 20:28].mean(axis=(1, 2))
    return 1 / (1 + np.exp(-8 * (needed - 0.5) - 2 * liked))


@pytest.mark.parametrize("keep", [0.5, 0.2])
def test_the_papers_estimator_is_the_mean_of_score_times_mask_over_keep(keep):
    draws = Independent(SPACE, 0, keep).draw(0, 300)
    masks = SPACE.render(draws).astype(np.float64)
    weights = score(masks)
    slow = (weights[:, None, None] * masks).mean(axis=0) / keep
    assert_allclose(estimate(SPACE, draws, weights, keep).mean, slow, rtol=1e-6)


def test_centring_takes_the_mean_score_off_and_puts_it_back():
    draws = Independent(SPACE, 0, 0.5).draw(0, 300)
    masks = SPACE.render(draws).astype(np.float64)
    weights = score(masks)
    slow = ((weights - weights.mean())[:, None, None] * masks).mean(axis=0) / 0.5 + weights.mean()
    assert_allclose(estimate(SPACE, draws, weights, 0.5, centred).mean, slow, rtol=1e-6)


ESTIMATORS = {
    "paper": (Independent, lambda draws: plain),
    "centred": (Independent, lambda draws: centred),
    "balanced": (Balanced, lambda draws: centred),
    "regression": (Independent, lambda draws: Regression(SPACE, draws, 0.5)),
    "balanced-regression": (Balanced, lambda draws: Regression(SPACE, draws, 0.5)),
}


def repeat(name: str, count: int, seeds: int) -> list[Estimate]:
    design, control = ESTIMATORS[name]
    found = []
    for seed in range(seeds):
        plan = design(SPACE, seed, 0.5) if design is Independent else design(SPACE, seed)
        draws = plan.draw(0, count)
        found.append(estimate(SPACE, draws, score(SPACE.render(draws)), 0.5, control(draws), plan.block))
    return found


def test_all_estimators_have_one_expectation_and_the_better_ones_less_noise():
    maps = {name: np.stack([e.mean for e in repeat(name, 256, 30)]) for name in ESTIMATORS}
    paper = maps.pop("paper")
    for other in maps.values():
        gap = np.abs(other.mean(axis=0) - paper.mean(axis=0))
        assert (gap < 5 * np.sqrt((paper.var(axis=0) + other.var(axis=0)) / 30)).all()
    noise = {name: found.var(axis=0).mean() for name, found in maps.items()}
    assert noise["centred"] < paper.var(axis=0).mean() / 2
    assert noise["balanced"] < noise["centred"] / 2
    assert noise["regression"] < noise["centred"] / 2
    assert noise["balanced-regression"] < min(noise["balanced"], noise["regression"]) / 1.2


def test_regression_finds_what_very_many_masks_of_the_paper_find():
    draws = Independent(SPACE, 1000, 0.5).draw(0, 20_000)
    truth = estimate(SPACE, draws, score(SPACE.render(draws)), 0.5, centred)
    found = np.stack([e.mean for e in repeat("balanced-regression", 128, 60)])
    error = np.sqrt(found.var(axis=0) / 60 + truth.error**2)
    assert (np.abs(found.mean(axis=0) - truth.mean) < 5 * error).all()


# Blocks of balanced masks are of 64 here: 930 are not divided by them.
@pytest.mark.parametrize("name", ["centred", "regression", "balanced", "balanced-regression"])
def test_the_standard_error_is_the_spread_among_repetitions(name):
    found = repeat(name, 930, 30)
    spread = np.std([e.mean for e in found], axis=0)
    said = np.sqrt(np.mean([e.error**2 for e in found], axis=0))
    assert np.median(said / spread) == pytest.approx(1, abs=0.2)


def test_one_mask_tells_nothing_of_its_error():
    draws = Independent(SPACE, 0, 0.5).draw(0, 1)
    assert np.isinf(estimate(SPACE, draws, np.ones(1), 0.5).error).all()
