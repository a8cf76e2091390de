"""What is seen where a mask hides, and where a path begins: "nothing there", in the model's own input."""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import MethodError
from onnxsal.image.preprocessing import normalise
from onnxsal.model.card import Card

FILLS = ("zero", "mean", "black", "grey", "white", "blur")
BLUR = 11 / 224
"""Deviation of the blur, as a part of the image's longer side: fine structure goes, colours stay."""


def make_fill(name: str | float, x: npt.NDArray[Any], card: Card) -> npt.NDArray[np.float32]:
    """Return the fill of that name, float32, of the shape of `x` (1, ...) or broadcast to it.

    Args:
        name: `zero`, the input's own zero, which after normalisation is the mean colour of the training set; `mean`,
            the mean colour of the image; `black`, `grey`, `white`; `blur`, the image without its detail; or a number,
            in units of the model's input.
        x: The model's input.
        card: Says how pixels become inputs.

    Raises:
        MethodError: It is none of these.
    """
    channels = card.channel_axis
    spatial = tuple(axis for axis in (1, 2, 3) if axis != channels)
    values = x.astype(np.float32)
    if name == "zero":
        return np.zeros((1,) * x.ndim, np.float32)
    if name == "mean":
        return np.asarray(values.mean(axis=spatial, keepdims=True), np.float32)
    if name in ("black", "grey", "white"):
        colour = normalise(np.full((1, 1, x.shape[channels]), {"black": 0, "grey": 128, "white": 255}[name]), card)
        return np.asarray(np.moveaxis(colour[None], 3, channels), np.float32)
    if name == "blur":
        from scipy.ndimage import gaussian_filter

        deviation = BLUR * max(x.shape[a] for a in spatial)
        return np.asarray(gaussian_filter(values, [deviation if a in spatial else 0 for a in range(x.ndim)]))
    try:
        number = float(name)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise MethodError(f"{name!r} is neither a number nor one of {', '.join(FILLS)}")
    return np.full((1,) * x.ndim, number, np.float32)
