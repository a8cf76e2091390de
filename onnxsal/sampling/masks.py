"""Masks as products: a small grid of cells, interpolated along rows and columns, shifted by whole pixels.

    M = outside + rows[y] · cells · columns[x]ᵀ

A mask of 224 x 224 is thus 49 numbers and two shifts. Interpolation is linear, so sums over thousands of masks are
taken over their cells, by shift, and interpolated once at the end: exact, in memory that does not grow with their
number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnxsal.image.resampling import interpolation_matrix
from onnxsal.sampling.enlarging import Edges, enlarging

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
PART = 1024
"""Masks that are summed up at a time, in memory that is the same for any number. Even: 2i and 2i + 1 are a pair."""

MOST_SHIFTS = 256
"""Of a long series: each takes the weights of all steps, and a cell is passed in so many as well."""


class Masks(Protocol):
    """Some masks of a space, a part at a time."""

    def __len__(self) -> int:
        """Return the number of masks."""

    def parts(self) -> "Iterator[tuple[slice, Draws]]":
        """Yield where a part lies among all masks, and the part, in order."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Some masks of a space.

    Attributes:
        cells: (n, s, t), what each cell is worth: 1 keeps, 0 hides.
        y: (n,), which of the space's `rows` interpolates it.
        x: (n,), which of the space's `columns`.
    """

    cells: Floats
    y: Integers
    x: Integers

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.cells)

    def __getitem__(self, part: slice) -> "Draws":
        """Return some of them."""
        return Draws(self.cells[part], self.y[part], self.x[part])

    def at_least(self, count: int) -> "Draws":
        """Return these, and the last again until there are `count`."""
        if len(self) >= count:
            return self
        which = np.minimum(np.arange(count), len(self) - 1)
        return Draws(self.cells[which], self.y[which], self.x[which])

    def parts(self) -> "Iterator[tuple[slice, Draws]]":
        """Yield where a part lies among all masks, and the part, in order."""
        for start in range(0, len(self), PART):
            part = slice(start, min(start + PART, len(self)))
            yield part, self[part]


@dataclass(frozen=True, eq=False)
class MaskSpace:
    """What all masks of one kind share.

    Attributes:
        rows: (Y, H, s), weights of the cells in each row of pixels, for each vertical shift.
        columns: (X, W, t), likewise.
        frame: (H, k) and (W, k), whose product is `outside`.
    """

    rows: Floats
    columns: Floats
    frame: tuple[Floats, Floats]

    @cached_property
    def outside(self) -> Floats:
        """(H, W), what is always kept, such as the padding around a photo."""
        kept: Floats = self.frame[0] @ self.frame[1].T
        return kept

    @property
    def grid(self) -> tuple[int, int]:
        """How many rows and columns of cells there are."""
        return self.rows.shape[2], self.columns.shape[2]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a mask in pixels."""
        return self.rows.shape[1], self.columns.shape[1]

    def render(self, draws: Draws) -> Floats:
        """Return the masks themselves, (n, H, W)."""
        inside = self.rows[draws.y] @ draws.cells @ self.columns[draws.x].transpose(0, 2, 1)
        made: Floats = (inside + self.outside).astype(np.float32)
        return made

    def framed(self) -> "MaskSpace":
        """Return the same masks of k more rows and columns of cells, which make what lies outside: `frame_cells`."""
        rows, columns = (
            np.concatenate([weights, np.broadcast_to(side, (len(weights), *side.shape))], axis=2)
            for weights, side in zip((self.rows, self.columns), self.frame, strict=True)
        )
        return MaskSpace(rows, columns, _no_frame(self.size))

    def frame_cells(self, cells: Floats) -> Floats:
        """Return cells (n, s + k, t + k) of the space that `framed` returns, from cells (n, s, t) of this one."""
        count, s, t = cells.shape
        more = self.frame[0].shape[1]
        framed = np.zeros((count, s + more, t + more), np.float32)
        framed[:, :s, :t] = cells
        framed[:, range(s, s + more), range(t, t + more)] = 1
        return framed

    def gather(self, masks: Masks, weights: Doubles, group: Integers, groups: int) -> Doubles:
        """Return weighted sums of the cells by group and shift: (n,) weights to (groups, Y, X, s, t).

        Summed in order of index and in double, so that the batches the masks were run in leave no trace.
        """
        shape = (groups, len(self.rows), len(self.columns), *self.grid)
        size = int(np.prod(shape[3:]))
        sums = np.zeros(int(np.prod(shape)))
        for part, draws in masks.parts():
            first = ((group[part] * shape[1] + draws.y) * shape[2] + draws.x) * size
            places = first[:, None] + np.arange(size)
            shares: Doubles = weights[part, None] * draws.cells.reshape(len(draws), size)
            # Sums by shift are many times what most parts add up to: added to in place, not counted anew.
            np.add.at(sums, places.ravel(), shares.ravel())
        return sums.reshape(shape)

    def interpolate(self, total: Doubles, *, every: tuple[int, int] = (1, 1)) -> Doubles:
        """Return sums of masks, without `outside`, from sums of their cells: (Y, X, s, t) to (H, W).

        Args:
            total: Sums by shift, from `gather`.
            every: Leave out all rows of pixels but each so many-th, and all columns.
        """
        both = zip((self.rows, self.columns), every, strict=True)
        rows, columns = (weights[:, n // 2 :: n].astype(np.float64) for weights, n in both)
        (down, height, s), (across, width, t) = rows.shape, columns.shape
        left = rows.transpose(1, 0, 2).reshape(height, down * s)
        right = columns.transpose(1, 0, 2).reshape(width, across * t)
        result: Doubles = left @ total.transpose(0, 2, 1, 3).reshape(down * s, across * t) @ right.T
        return result


# ----- Spaces -----


def rise_space(
    content: tuple[int, int, int, int], size: tuple[int, int], cells: tuple[int, int], edges: Edges = "bilinear"
) -> MaskSpace:
    """Return RISE's masks: cells enlarged to more than fits, and cut out at a random shift.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 3.2, and the authors' code.

    Args:
        content: The part of the input that shows the photo, (x1, y1, x2, y2) in whole pixels; what lies beyond is
            padding, and stays.
        size: Height and width of the input.
        cells: Rows and columns of the grid.
        edges: How cells are enlarged (`enlarging`).
    """
    x1, y1, x2, y2 = content
    height, width = y2 - y1, x2 - x1
    margin = int(max(height / cells[0], width / cells[1]))
    rows = _shifted(enlarging(edges, height, cells[0], margin), height, y1, size[0])
    columns = _shifted(enlarging(edges, width, cells[1], margin), width, x1, size[1])
    return MaskSpace(rows, columns, _frame_around(content, size))


def _frame_around(content: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return factors of what is 1 beyond the content, 0 within: whole rows above and below, and what is beside it."""
    x1, y1, x2, y2 = content
    rows, columns = (np.ones(n, np.float32) for n in size)
    rows[y1:y2], columns[x1:x2] = 0, 0
    if not rows.any() and not columns.any():
        return _no_frame(size)
    return np.stack([rows, 1 - rows], axis=1), np.stack([np.ones_like(columns), columns], axis=1)


def _no_frame(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return factors of zero."""
    return np.zeros((size[0], 0), np.float32), np.zeros((size[1], 0), np.float32)


def _all_kept(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return factors of one."""
    return np.ones((size[0], 1), np.float32), np.ones((size[1], 1), np.float32)


def _shifted(enlarged: tuple[Floats, int], length: int, start: int, size: int, every: int = 1) -> Floats:
    """Return (shifts, size, cells): the windows of `length` pixels, with nothing before `start` and behind.

    Of the shifts there may be, each `every`-th.
    """
    line, shifts = enlarged
    firsts = range(0, shifts, every)
    windows = np.zeros((len(firsts), size, line.shape[1]), np.float32)
    for window, first in zip(windows, firsts, strict=True):
        window[start : start + length] = line[first : first + length]
    return windows


def window_space(content: tuple[int, int, int, int], size: tuple[int, int], window: int, stride: int) -> MaskSpace:
    """Return masks that hide one square each: a cell of -1 hides what `rows[y]` and `columns[x]` cover.

    Windows begin every `stride` pixels of the content; the last ones end with it.
    """
    x1, y1, x2, y2 = content
    rows, columns = _windows(y1, y2, size[0], window, stride), _windows(x1, x2, size[1], window, stride)
    return MaskSpace(rows, columns, _all_kept(size))


def _windows(start: int, stop: int, size: int, window: int, stride: int) -> Floats:
    """Return (windows, size, 1): 1 within the window."""
    count = 1 + max(-(-(stop - start - window) // stride), 0)
    first = start + stride * np.arange(count)
    pixels = np.arange(size)
    within = (pixels >= first[:, None]) & (pixels < np.minimum(first + window, stop)[:, None])
    return within.astype(np.float32)[:, :, None]


def all_windows(space: MaskSpace) -> Draws:
    """Return every window of a space, row by row."""
    y, x = (i.ravel() for i in np.mgrid[: len(space.rows), : len(space.columns)])
    return Draws(np.full((len(y), 1, 1), -1, np.float32), y, x)


def layer_space(size: tuple[int, int], grid: tuple[int, int]) -> MaskSpace:
    """Return masks that are a layer's cells, enlarged over the whole input: linear between centres, edges held."""
    rows, columns = (
        interpolation_matrix((np.arange(n) + 0.5) * (cells / n), cells)[None]
        for n, cells in zip(size, grid, strict=True)
    )
    return MaskSpace(rows, columns, _no_frame(size))


def feature_space(size: tuple[int, int], cells: int, edges: Edges = "bilinear") -> MaskSpace:
    """Return masks of arrays that are no images: `cells` stretches of the first axis, each column by itself."""
    columns = np.eye(size[1], dtype=np.float32)[None]
    if size[0] == 1:
        return MaskSpace(np.ones((1, 1, 1), np.float32), columns, _no_frame(size))
    enlarged = enlarging(edges, size[0], cells, size[0] // cells)
    every = -(-enlarged[1] // MOST_SHIFTS)
    return MaskSpace(_shifted(enlarged, size[0], 0, size[0], every), columns, _no_frame(size))


def stretch_space(size: tuple[int, int], window: int, stride: int) -> MaskSpace:
    """Return masks that hide one stretch of the first axis in one column each."""
    columns = np.eye(size[1], dtype=np.float32)[:, :, None]
    return MaskSpace(_windows(0, size[0], size[0], window, stride), columns, _all_kept(size))
