"""Which pixels of a segmentation a target is about, as a mask of the model's input."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import TargetError
from onnxsal.explanation.inputs import Sample
from onnxsal.maps import enlarge
from onnxsal.targets import NO_MAP, Target

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def mask_of(target: Target, given: Any, sample: Sample) -> Floats:
    """Return (1, H, W) in [0, 1], at the resolution of the model's input: what counts of a map of classes.

    Args:
        target: May name a region, in pixels of the photo.
        given: A mask (H, W) of the photo, or of the model's input where the sample is one; or a box (x1, y1, x2, y2);
            None takes the target's.
        sample: The photo.

    Raises:
        TargetError: The mask does not fit the photo, or nothing of it is seen.
    """
    box = target.region if given is None else _as_box(given)
    place = sample.placement
    mask = _of_array(np.asarray(given), sample) if box is None else _of_box(place.box_to_input(box), place.size)
    if not mask.any():
        raise TargetError(f"the region of {target.text!r} lies outside what the model sees of {sample.name}")
    return mask[None]


def _as_box(given: Any) -> tuple[float, float, float, float] | None:
    array = np.asarray(given, np.float64)
    if array.shape != (4,):
        return None
    x1, y1, x2, y2 = (float(side) for side in array)
    return x1, y1, x2, y2


def _of_array(mask: Array, sample: Sample) -> Floats:
    photo = sample.placement.photo
    if mask.shape != photo:
        raise TargetError(
            f"the mask is of shape {mask.shape}, and {sample.name} of {photo}: give one weight for each pixel"
        )
    return sample.placement.to_input(mask)


def _of_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> Floats:
    """Return how much of each pixel a box covers."""
    sides = [
        np.clip(np.minimum(high, np.arange(n) + 1) - np.maximum(low, np.arange(n)), 0, 1)
        for low, high, n in ((box[1], box[3], size[0]), (box[0], box[2], size[1]))
    ]
    covered: Floats = np.outer(*sides).astype(np.float32)
    return covered


# ----- Of a map of classes -----


def has_pixels(output: Array, head: Mapping[str, Any]) -> bool:
    """Tell whether a class output is a map, with more than one place."""
    beside = [n for axis, n in enumerate(output.shape) if axis not in (0, head["output_class_axis"])]
    return any(n > 1 for n in beside)


def predicted(output: Array, head: Mapping[str, Any], index: int) -> Floats:
    """Return (N, h, w), 1 at pixels of an output whose likeliest class it is; behind sigmoids, where it is likely."""
    planes = pixel_scores(output, head)
    if head["activation"] == "sigmoid":
        hit: Floats = (planes[:, index] > 0.5).astype(np.float32)
        return hit
    first: Floats = (planes.argmax(axis=1) == index).astype(np.float32)
    return first


def pixel_scores(output: Array, head: Mapping[str, Any]) -> Array:
    """Return a class output as (N, K, h, w), in real numbers."""
    planes = np.moveaxis(output, head["output_class_axis"], 1).astype(np.float64)
    if output.dtype.kind in "iu":
        planes = (planes - (head.get("output_zero_point") or 0)) * (head.get("output_scale") or 1.0)
    return planes


def pixel_probabilities(planes: Array, head: Mapping[str, Any]) -> Array:
    """Return probabilities (N, K, h, w) of scores of the same shape."""
    activation = head["activation"]
    if activation in ("softmax", "sigmoid"):
        return planes
    peak = 0 if activation == "log-softmax" else planes.max(axis=1, keepdims=True)
    powers: Array = np.exp(planes - peak)
    return powers if activation == "log-softmax" else powers / powers.sum(axis=1, keepdims=True)


def summed(planes: Array, mask: Floats, index: int) -> Array:
    """Return (N,): a class's plane of (N, K, h, w), summed over the pixels of a mask (1, H, W)."""
    fitted = mask if mask.shape[1:] == planes.shape[2:] else enlarge(mask, (planes.shape[2], planes.shape[3]))
    total: Array = (planes[:, index] * fitted).sum(axis=(1, 2))
    return total


def settle(
    target: Target, output: Array, head: Mapping[str, Any], size: tuple[int, int]
) -> tuple[Target, Floats | None]:
    """Return a target with the pixels that count settled on the image as it is, and these, (1, H, W); None for all.

    Args:
        target: Its class is settled; a region is not looked at.
        output: The class output, of one sample.
        head: `Findings.summary()`.
        size: Height and width of the model's input.

    Raises:
        TargetError: No pixel is predicted as the class, or the output has none.
    """
    if target.form.pixels == "mask" and not has_pixels(output, head):
        raise TargetError(NO_MAP)
    if target.form.pixels != "predicted":
        return target, None
    if not has_pixels(output, head):
        return replace(target, form=replace(target.form, pixels="all")), None
    found = predicted(output, head, target.index)[0]
    if not found.any():
        raise nowhere(target)
    places = (np.arange(n) * k // n for n, k in zip(size, found.shape, strict=True))
    large: Floats = found[np.ix_(*places)][None]
    return replace(target, form=replace(target.form, pixels="mask")), large


def nowhere(target: Target) -> TargetError:
    """Return the error that no pixel is predicted as a class."""
    name = target.text.partition("@")[0]
    named = f"{target.index} {target.label}" if target.label else target.index
    return TargetError(f"no pixel is predicted as {named}: say which count, {name}@x1,y1,x2,y2 or {name}@all")
