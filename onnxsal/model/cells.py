"""Read a place: which axes are batch, channel and cells, and where among these each cell of the grid is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxsal.graph.shapes import Shape
from onnxsal.model.places import NEAR, SAMPLE, Place, X, Y, extent, mean

# A layer may leave this much of the image's height or width out at each border, and no more: it is drawn
# over the whole image.
LEFT_OUT = 0.25
# In place of an axis: the samples share axis 0 with cells.
SHARED = -1


@dataclass(frozen=True)
class Cells:
    """How a value holds the cells of a grid; the fields are those of `grid.Layer`."""

    kind: str
    grid: tuple[int, int]
    channel_axis: int
    batch_axis: int | None
    extra: int
    order: Sequence[int]


def read_cells(place: Place, shape: Shape, batch: int) -> Cells | None:
    """Tell axes of batch, channel and cells apart, and put the cells in order.

    Args:
        place: Of the value.
        shape: Its shape in the walk.
        batch: The number of samples in the walk.

    Returns:
        None unless there is one axis of channels and the others are one complete grid.
    """
    still = [a for a in range(len(shape)) if place.shape[a + 1] == 1 or _is_still(place[Y:], a)]
    samples = _sample_axis(place, shape, batch, still)
    channel = _channel_axis(shape, [a for a in still if a != samples])
    if samples is None or channel is None:
        return None
    rest = [a for a in range(len(shape)) if a not in (channel, samples)]
    flat = _flatten(mean(place, [channel]), shape, rest)
    cells = _first_sample(flat, batch) if samples == SHARED else flat
    found = None if cells is None else _arrange(cells[Y], cells[X])
    if found is None:
        return None
    grid, order, extra = found
    batch_axis = None if samples == SHARED else samples
    return Cells(_kind(shape, grid, channel, batch_axis, order), grid, channel, batch_axis, extra, order)


def _is_still(coordinates: NDArray[np.float32], axis: int) -> bool:
    return not np.any(extent(coordinates, axis + 1) > NEAR)


def _sample_axis(place: Place, shape: Shape, batch: int, still: Sequence[int]) -> int | None:
    """Return the axis of the samples, `SHARED` if cells are in it too, None if it cannot be told."""
    if batch == 1:
        return next((a for a in still if shape[a] == 1), SHARED)
    along = [a for a in range(len(shape)) if place.shape[a + 1] > 1 and not _is_still(place[:1], a)]
    if len(along) != 1:
        return None
    (axis,) = along
    if axis in still:
        return axis if shape[axis] == batch else None
    return SHARED if axis == 0 else None


def _channel_axis(shape: Shape, still: Sequence[int]) -> int | None:
    """Return the one axis along which cells do not change; of several of size 1 the first."""
    wide = [a for a in still if shape[a] > 1]
    if len(wide) > 1 or not still:
        return None
    return wide[0] if wide else still[0]


def _flatten(place: Place, shape: Shape, rest: Sequence[int]) -> NDArray[np.float32]:
    """Return (3, positions) along the axes `rest`; of the others the first element."""
    full = [n if a in rest else place.shape[a + 1] for a, n in enumerate(shape)]
    index = tuple(slice(None) if a in rest else 0 for a in range(len(shape)))
    return np.asarray(np.broadcast_to(place, (3, *full))[(slice(None), *index)]).reshape(3, -1)


def _first_sample(cells: NDArray[np.float32], batch: int) -> NDArray[np.float32] | None:
    """Return the cells of the first sample, if samples lie one after the other."""
    count, left = divmod(cells.shape[1], batch)
    known = ~np.isnan(cells[SAMPLE])
    expected = np.arange(cells.shape[1]) // max(count, 1)
    if left or np.any(cells[SAMPLE][known] != expected[known]):
        return None
    return cells[:, :count]


def _arrange(y: NDArray[np.float32], x: NDArray[np.float32]) -> tuple[tuple[int, int], Sequence[int], int] | None:
    """Return the grid, the position of each of its cells and how many positions are no cell.

    None unless the positions are one complete grid, each cell once, over the image.
    """
    known = np.flatnonzero(~np.isnan(y) & ~np.isnan(x))
    rows, columns = _levels(y[known]), _levels(x[known])
    if rows is None or columns is None:
        return None
    (row, h), (column, w) = rows, columns
    if h * w != known.size or known.size < 2:
        return None
    order = np.full(h * w, -1)
    order[row * w + column] = known
    if np.any(order < 0):
        return None
    first, extra = int(order[0]), y.size - order.size
    if np.array_equal(order, np.arange(first, first + order.size)):
        return (h, w), range(first, first + order.size), extra
    return (h, w), tuple(order.tolist()), extra


def _levels(coordinates: NDArray[np.float32]) -> tuple[NDArray[np.intp], int] | None:
    """Return the rank of each coordinate among the different ones, and their number; None if they leave much out."""
    if coordinates.size == 0:
        return None
    order = np.argsort(coordinates, kind="stable")
    levels = np.concatenate([[0], np.cumsum(np.diff(coordinates[order]) > NEAR)])
    count = int(levels[-1]) + 1
    first, last = coordinates[order[0]], coordinates[order[-1]]
    half = (last - first) / max(count - 1, 1) / 2
    if count > 1 and (first - half > LEFT_OUT or last + half < 1 - LEFT_OUT):
        return None
    ranks = np.empty(coordinates.size, np.intp)
    ranks[order] = levels
    return ranks, count


def _kind(shape: Shape, grid: tuple[int, int], channel: int, batch_axis: int | None, order: Sequence[int]) -> str:
    plain = isinstance(order, range) and order.start == 0
    if len(shape) == 4 and batch_axis == 0 and plain:
        if channel == 1 and shape[2:] == grid:
            return "map"
        if channel == 3 and shape[1:3] == grid:
            return "map-nhwc"
    return "tokens" if len(shape) == 3 and batch_axis is not None else "windows"
