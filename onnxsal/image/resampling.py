"""Linear resampling of maps, as matrices: one axis at a time, (output pixels, input pixels)."""

from typing import Any

import numpy as np
import numpy.typing as npt


def resize_map(heatmap: npt.NDArray[Any], size: tuple[int, int], *, antialias: bool) -> npt.NDArray[np.float32]:
    """Return (..., h, w) as (..., H, W), float32: linear between pixel centres, edges held.

    Args:
        heatmap: Last two axes are height and width.
        size: (H, W) of the result.
        antialias: Average over all input pixels that an output pixel covers, when shrinking. False reads the two
            nearest only, as ONNX Resize (`linear`, `half_pixel`) and `torch.nn.functional.interpolate` do.
    """
    rows, columns = (
        resize_matrix(n_in, n_out, antialias=antialias) for n_in, n_out in zip(heatmap.shape[-2:], size, strict=True)
    )
    resized: npt.NDArray[np.float32] = rows @ (heatmap.astype(np.float32) @ columns.T)
    return resized


def interpolation_matrix(centres: npt.NDArray[Any], n: int, width: float = 1.0) -> npt.NDArray[np.float32]:
    """Return (len(centres), n) weights, each row summing to 1: triangles of half-width `width` around the centres.

    Args:
        centres: Where to read, in continuous pixels (pixel k has its centre at k + 0.5); outside counts as the edge.
        n: Number of input pixels.
        width: In input pixels, at least 1; 1 interpolates between the two nearest, more averages.
    """
    pixels = np.arange(n) + 0.5
    held = np.clip(centres, 0.5, n - 0.5) if width == 1 else np.clip(centres, 0, n)
    weights = np.maximum(0, 1 - np.abs(held[:, None] - pixels) / width)
    normalised: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def resize_matrix(n_in: int, n_out: int, *, antialias: bool) -> npt.NDArray[np.float32]:
    """Return the weights (n_out, n_in) that resize one axis, as `resize_map` does."""
    scale = n_in / n_out
    centres = (np.arange(n_out) + 0.5) * scale
    return interpolation_matrix(centres, n_in, max(1.0, scale) if antialias else 1.0)
