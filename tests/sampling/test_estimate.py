"""The map against its definition, its error against the truth."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnxsal.sampling.designs import Balanced, Independent
from onnxsal.sampling.estimate import estimate
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
    assert_allclose(estimate(SPACE, draws, weights, keep, centred=False).mean, slow, rtol=1e-6)


def test_centring_takes_the_mean_score_off_and_puts_it_back():
    draws = Independent(SPACE, 0, 0.5).draw(0, 300)
    masks = SPACE.render(draws).astype(np.float64)
    weights = score(masks)
    slow = ((weights - weights.mean())[:, None, None] * masks).mean(axis=0) / 0.5 + weights.mean()
    assert_allclose(estimate(SPACE, draws, weights, 0.5, centred=True).mean, slow, rtol=1e-6)


def maps(design, count: int, *, centred: bool) -> np.ndarray:
    found = []
    for seed in range(30):
        draws = design(seed).draw(0, count)
        found.append(estimate(SPACE, draws, score(SPACE.render(draws)), 0.5, centred=centred).mean)
    return np.stack(found)


def test_all_estimators_have_one_expectation_and_the_better_ones_less_noise():
    plain = maps(lambda seed: Independent(SPACE, seed, 0.5), 256, centred=False)
    centred = maps(lambda seed: Independent(SPACE, seed, 0.5), 256, centred=True)
    balanced = maps(lambda seed: Balanced(SPACE, seed), 256, centred=True)
    for other in (centred, balanced):
        gap = np.abs(other.mean(axis=0) - plain.mean(axis=0))
        assert (gap < 5 * np.sqrt((plain.var(axis=0) + other.var(axis=0)) / 30)).all()
    noise = [m.var(axis=0).mean() for m in (plain, centred, balanced)]
    assert noise[1] < noise[0] / 2
    assert noise[2] < noise[1] / 2


def test_the_standard_error_is_the_spread_among_repetitions():
    found = []
    for seed in range(40):
        draws = Independent(SPACE, seed, 0.5).draw(0, 512)
        found.append(estimate(SPACE, draws, score(SPACE.render(draws)), 0.5, centred=True))
    spread = np.std([e.mean for e in found], axis=0)
    said = np.sqrt(np.mean([e.error**2 for e in found], axis=0))
    assert np.median(said / spread) == pytest.approx(1, abs=0.15)


def test_one_mask_tells_nothing_of_its_error():
    draws = Independent(SPACE, 0, 0.5).draw(0, 1)
    assert np.isinf(estimate(SPACE, draws, np.ones(1), 0.5, centred=False).error).all()
