"""How a line of random cells becomes a line of pixels, longer than is needed, to be cut out at a random place.

RISE's authors, TorchRay and Microsoft's D-RISE each do it in their own way; tests/parity holds them to it.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Edges = Literal["bilinear", "padded", "nearest"]


def enlarging(edges: Edges, length: int, cells: int, margin: int) -> tuple[Floats, int]:
    """Return weights (pixels, cells), pixels being `length` and more, and at how many places `length` may begin.

    Args:
        edges: `bilinear`, RISE's authors' (skimage's `resize`, order 1, mode `reflect`): cells are stretched to what
            one more would take, mirrored behind the ends. `padded`, TorchRay's: likewise, but of a whole number of
            pixels a cell, some of them cut off. `nearest`, Microsoft's: cells of hard edges, `margin` pixels longer
            than is needed.
        length: Pixels that are needed.
        cells: Cells.
        margin: Of `nearest`, as its authors take the largest cell of both axes.
    """
    shift = cell_size(length, cells)
    if edges == "nearest":
        return _nearest(length + margin, cells), margin + 1
    if edges == "padded":
        side = cell_size(length + shift, cells)
        return _linear((np.arange(length + shift) + 0.5) / side - 0.5, cells), shift
    long = (cells + 1) * shift
    return _linear((np.arange(long) + 0.5) * (cells / long) - 0.5, cells), shift


def cell_size(length: int, cells: int) -> int:
    """Return how many pixels a cell takes."""
    return -(-length // cells)


def _linear(at: npt.NDArray[Any], cells: int) -> Floats:
    """Return weights that read a line of cells at places between their centres, cell k's at k."""
    low = np.floor(at).astype(int)
    weights = np.zeros((len(at), cells), np.float32)
    for place, share in ((low, 1 - (at - low)), (low + 1, at - low)):
        np.add.at(weights, (np.arange(len(at)), _mirrored(place, cells)), share)
    return weights


def _mirrored(place: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return places on a line that goes on behind its ends as in a mirror: -1 is 1, `count` is `count - 2`."""
    if count == 1:
        return np.zeros_like(place)
    mirrored: npt.NDArray[Any] = (count - 1) - np.abs((count - 1) - np.abs(place))
    return mirrored


def _nearest(long: int, cells: int) -> Floats:
    """Return weights that read of each pixel the one cell it lies in, in float32 as PyTorch's nearest does."""
    at = np.arange(long, dtype=np.float32) * (np.float32(cells) / np.float32(long))
    weights: Floats = np.eye(cells, dtype=np.float32)[np.minimum(np.floor(at).astype(int), cells - 1)]
    return weights
