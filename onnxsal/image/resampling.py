"""Linear resampling of maps, as matrices: one axis at a time, (output pixels, input pixels)."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TOGETHER = 64
"""Rows of a result that are made at a time: as many as stay in a processor's own memory."""


def resize_map(heatmap: npt.NDArray[Any], size: tuple[int, int], *, antialias: bool) -> Floats:
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
    return resample(heatmap, rows, columns)


def resample(heatmap: npt.NDArray[Any], rows: Floats, columns: Floats) -> Floats:
    """Return (..., h, w) as (..., H, W), float32: `rows @ heatmap @ columns.T`, of matrices that are nearly all zero.

    No product of matrices: those who compute it (BLAS) have their threads wait in a loop for the next one, 25 ms long,
    and ONNX Runtime's then get half of the processor. On two cores that was 68 ms for a gradient in place of 26.
    """
    across = _weigh(columns, np.swapaxes(heatmap, -1, -2).astype(np.float32, order="C"))
    return _weigh(rows, np.ascontiguousarray(np.swapaxes(across, -1, -2)))


def _weigh(matrix: Floats, maps: Floats) -> Floats:
    """Return `matrix @ maps`, where a row of the matrix has few entries, one beside the other."""
    first = np.argmax(matrix != 0, axis=1)
    taps = np.count_nonzero(matrix, axis=1).max(initial=1)
    beside = first[:, None] + np.arange(taps)
    pixels = np.minimum(beside, matrix.shape[1] - 1)
    weights = np.where(beside == pixels, np.take_along_axis(matrix, pixels, axis=1), 0)[..., None]
    result = np.empty((*maps.shape[:-2], len(matrix), maps.shape[-1]), np.float32)
    for start in range(0, len(matrix), TOGETHER):
        some = slice(start, start + TOGETHER)
        np.multiply(maps[..., pixels[some, 0], :], weights[some, 0], out=result[..., some, :])
        for tap in range(1, taps):
            result[..., some, :] += maps[..., pixels[some, tap], :] * weights[some, tap]
    return result


def interpolation_matrix(centres: npt.NDArray[Any], n: int, width: float = 1.0) -> Floats:
    """Return (len(centres), n) weights, each row summing to 1: triangles of half-width `width` around the centres.

    Args:
        centres: Where to read, in continuous pixels (pixel k has its centre at k + 0.5); outside counts as the edge.
        n: Number of input pixels.
        width: In input pixels, at least 1; 1 interpolates between the two nearest, more averages.
    """
    pixels = np.arange(n) + 0.5
    held = np.clip(centres, 0.5, n - 0.5) if width == 1 else np.clip(centres, 0, n)
    weights = np.maximum(0, 1 - np.abs(held[:, None] - pixels) / width)
    normalised: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def resize_matrix(n_in: int, n_out: int, *, antialias: bool) -> Floats:
    """Return the weights (n_out, n_in) that resize one axis, as `resize_map` does."""
    scale = n_in / n_out
    centres = (np.arange(n_out) + 0.5) * scale
    return interpolation_matrix(centres, n_in, max(1.0, scale) if antialias else 1.0)
