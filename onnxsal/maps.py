"""Attribution to heatmap, in numbers: reduce channels, enlarge, scale."""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import MethodError
from onnxsal.image.resampling import resize_map

Map = npt.NDArray[np.float32]

REDUCTIONS = ("max_abs", "sum_abs", "l2", "sum", "positive")


def reduce_channels(attribution: npt.NDArray[Any], how: str = "max_abs", *, axis: int = 0) -> Map:
    """Return an attribution without its channel axis, float32.

    Args:
        attribution: Any shape with a channel axis, such as (C, H, W).
        how: "max_abs" the largest magnitude (Simonyan et al. 2014, arXiv:1312.6034, section 3.1); "sum_abs" the sum of
            magnitudes; "l2" the root of the sum of squares; "sum" the signed sum, which can be negative; "positive"
            what of that sum is positive.
        axis: The channel axis; 0 for (C, H, W), 1 for a batch, -1 where channels come last.

    Raises:
        MethodError: For an unknown reduction.
    """
    values = np.asarray(attribution, np.float32)
    if how == "max_abs":
        reduced = np.abs(values).max(axis=axis)
    elif how == "sum_abs":
        reduced = np.abs(values).sum(axis=axis)
    elif how == "l2":
        reduced = np.sqrt(np.square(values).sum(axis=axis))
    elif how in ("sum", "positive"):
        total = values.sum(axis=axis)
        reduced = np.maximum(total, 0) if how == "positive" else total
    else:
        raise MethodError(f"no reduction {how!r}; there are {', '.join(REDUCTIONS)}")
    return np.asarray(reduced, np.float32)


def enlarge(heatmap: npt.NDArray[Any], size: tuple[int, int]) -> Map:
    """Return (..., h, w) as (..., H, W): linear between pixel centres, edges held.

    The same numbers as ONNX Resize (`linear`, `half_pixel`) and torch's `interpolate(align_corners=False)`.
    """
    return resize_map(heatmap, size, antialias=False)


def shrink(heatmap: npt.NDArray[Any], size: tuple[int, int]) -> Map:
    """Return (..., h, w) as (..., H, W), averaging what falls together; where it enlarges, the same as `enlarge`."""
    return resize_map(heatmap, size, antialias=True)


def scale_to_unit(heatmap: npt.NDArray[Any]) -> Map:
    """Return a map whose largest magnitude is 1; signs stay, and a map of zeros stays zeros.

    Never min-max: subtracting the minimum would give every map a hot and a cold end, also where nothing matters.

    Args:
        heatmap: (..., H, W); each map is scaled by itself.
    """
    values = np.asarray(heatmap, np.float32)
    return divide(values, np.abs(values).max(axis=(-2, -1), keepdims=True))


def clip_percentile(heatmap: npt.NDArray[Any], percentile: float = 99.5) -> Map:
    """Return the map in units of a percentile of its magnitude, clipped to [-1, 1]: for display.

    A few pixels of a gradient outshine all others; cut there, the rest becomes visible. Where the percentile itself is
    0, as in a map with a single spot, the largest magnitude stands in.

    Args:
        heatmap: (H, W), or (H, W, C) for coloured attributions.
        percentile: In (0, 100]; 100 clips nothing.
    """
    values = np.asarray(heatmap, np.float32)
    magnitude = np.abs(values)
    top = np.percentile(magnitude, percentile) or magnitude.max(initial=0)
    return np.clip(divide(values, np.float32(top)), -1, 1)


def divide(values: Map, by: npt.NDArray[np.float32] | np.float32) -> Map:
    """Return values / by, and 0 where `by` is 0."""
    divisor = np.broadcast_to(by, values.shape)
    # The smallest floats would overflow: below the normal range a map is zero for all it says.
    return np.divide(values, divisor, out=np.zeros_like(values), where=divisor > np.finfo(np.float32).tiny)
