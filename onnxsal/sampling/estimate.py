"""From masks and what the model scored under each to a map, and how sure it is.

The estimand of all is RISE's: the score that is to be expected when a pixel is kept, S(l) = E[f(M) | M(l) = 1].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxsal.image.resampling import resize_map
from onnxsal.sampling.controls import Control, plain
from onnxsal.sampling.masks import Masks, MaskSpace

Map = npt.NDArray[np.float64]
GROUPS, LEAST_GROUPS = 16, 7
ERROR_ROWS = 32
"""Standard errors vary no faster than cells do: they are computed at so many rows and columns of pixels at most."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A sampled map.

    Attributes:
        mean: (H, W).
        error: (H, W), its standard error.
    """

    mean: Map
    error: npt.NDArray[np.float32]


def estimate(
    space: MaskSpace,
    masks: Masks,
    scores: npt.NDArray[np.floating],
    keep: float,
    control: Control = plain,
    block: int = 2,
) -> Estimate:
    """Return the map of one target.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, eq. 6: the mean of score times mask, over `keep`. A control takes off
    what of the scores it foresees, and gives back the map of that: the same estimand, with less noise.

    The error comes from the spread among stretches of masks that follow each other. Masks that balance each other stay
    together; where there are few blocks of them, pairs (2i and 2i + 1) do, and the error is somewhat too large.

    Args:
        space: What the masks share.
        masks: n of them.
        scores: (n,).
        keep: The probability that a cell stays.
        control: Takes the scores apart.
        block: How many masks that follow each other balance each other.
    """
    count = len(scores)
    controlled = control(scores.astype(np.float64))
    residuals = controlled.residuals / keep
    member, groups = _stretches(count, block)
    sums = space.gather(masks, residuals, member, groups)
    # What lies outside is kept by every mask.
    sampled = space.interpolate(sums.sum(axis=0)) / count + space.outside * residuals.mean()
    return Estimate(sampled + controlled.expected, _error(space, sums, np.bincount(member)))


def _stretches(count: int, block: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return which stretch each mask belongs to, and how many there are; none divides a block, unless there are few."""
    whole = block if count >= LEAST_GROUPS * block else 2
    # What is left of a last block joins the one before.
    blocks = max(count // whole, 1)
    groups = min(GROUPS, blocks)
    return np.minimum(np.arange(count) // whole, blocks - 1) * groups // blocks, groups


def _error(space: MaskSpace, sums: Map, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the standard error of the mean over all groups, from the sums of each."""
    if len(sums) < 2:
        return np.full(space.size, np.inf, np.float32)
    height, width = space.size
    every = (-(-height // ERROR_ROWS), -(-width // ERROR_ROWS))
    means = np.stack([space.interpolate(g, every=every) / count for g, count in zip(sums, counts, strict=True)])
    return resize_map(means.std(axis=0, ddof=1) / np.sqrt(len(sums)), space.size, antialias=False)
