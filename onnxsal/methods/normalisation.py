"""In which units the maps of random masks come."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnxsal.methods.subject import Sampled
from onnxsal.sampling.masks import Masks, MaskSpace

Normalisation = Literal["keep", "samples", "masks", "none", "min-max"]


def normalised(
    maps: Sequence[Sampled], how: Normalisation, space: MaskSpace, masks: Masks, keep: float, *, centred: bool
) -> list[Sampled]:
    """Return the maps in other units; their standard errors, and the value that stands for no difference, likewise.

    Args:
        maps: Estimates of the score that is to be expected when a pixel is kept.
        how: `keep`, as they are: the sum of score times mask, over the number of masks and `keep` (Petsiuk et al. 2018,
            arXiv:1806.07421, eq. 6). `samples`, over the number of masks; `none`, the sum itself. `masks`, over the sum
            of the masks at each pixel: the mean score of the masks that kept it. `min-max`, moved and scaled so that
            the photo's least is 0 and its most 1.
        space: What the masks share.
        masks: What was drawn.
        keep: Probability that a cell stays.
        centred: Whether the mean score was taken off before masks were added up, and put back.
    """
    if how == "masks":
        shown = _shown(space, masks) / keep
        return [_over(m, shown, m.zero if centred else 0.0) for m in maps]
    if how == "min-max":
        return [_to_unit(m, space.outside == 0) for m in maps]
    factor = {"keep": 1.0, "samples": keep, "none": keep * len(masks)}[how]
    return [_times(m, 0.0, factor) for m in maps]


def _shown(space: MaskSpace, masks: Masks) -> npt.NDArray[np.float64]:
    """Return the mean of the masks, (H, W)."""
    count = len(masks)
    sums = space.gather(masks, np.ones(count), np.zeros(count, np.int64), 1)[0]
    mean: npt.NDArray[np.float64] = space.interpolate(sums) / count + space.outside
    return mean


def _over(sampled: Sampled, shown: npt.NDArray[np.float64], offset: float) -> Sampled:
    """Return the map as a mean over the masks that kept a pixel; `offset`, known without them, where none did."""

    def per_mask(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.divide(values, shown, out=np.zeros_like(shown), where=shown > 0)

    mean = (per_mask(sampled.attribution - np.float32(offset)) + offset).astype(np.float32)
    error = None if sampled.error is None else per_mask(sampled.error).astype(np.float32)
    return replace(sampled, attribution=mean, error=error)


def _to_unit(sampled: Sampled, photo: npt.NDArray[np.bool_]) -> Sampled:
    seen = sampled.attribution[photo]
    low, span = float(seen.min()), float(np.ptp(seen))
    scaled = _times(sampled, low, 1 / span if span > 0 else 0.0)
    return replace(scaled, attribution=np.where(photo, scaled.attribution, 0).astype(np.float32), zero=0.0)


def _times(sampled: Sampled, less: float, factor: float) -> Sampled:
    """Return a map less something, times something."""
    if (less, factor) == (0.0, 1.0):
        return sampled
    moved = ((sampled.attribution.astype(np.float64) - less) * factor).astype(np.float32)
    error = None if sampled.error is None else (sampled.error * np.float32(factor)).astype(np.float32)
    return replace(sampled, attribution=moved, error=error, zero=(sampled.zero - less) * factor)
