"""Places: for each element of a value, which sample it belongs to and where on the image it lies.

A place is an array (3, *axes) of float32: sample number, and y and x of the element's centre, both in
[0, 1] of the image. An axis along which nothing changes has size 1, so that channels cost nothing. NaN
means nowhere: a class token, a border of padding.

These are the operations on such arrays; which operator does which is in `transfer`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Place = NDArray[np.float32]

SAMPLE, Y, X = 0, 1, 2
NEAR = 2e-5  # two coordinates closer than this are one; an image of 4096 pixels has 2.4e-4 between two


def of_image(batch: int, height: int, width: int, *, channels_last: bool) -> Place:
    """Return the place of an image: each pixel at its centre."""
    place = np.empty((3, batch, 1, height, width), np.float32)
    place[SAMPLE] = np.arange(batch).reshape(-1, 1, 1, 1)
    place[Y] = ((np.arange(height) + 0.5) / height).reshape(-1, 1)
    place[X] = (np.arange(width) + 0.5) / width
    return np.moveaxis(place, 2, 4) if channels_last else place


def extent(array: NDArray[np.float32], axis: int | tuple[int, ...]) -> NDArray[np.float32]:
    """Return the difference of largest and smallest along axes that stay; NaN only where all are."""
    found = np.ptp(array, axis=axis, keepdims=True)
    if not np.isnan(found).any():
        return np.asarray(found)
    # Three times slower, so only where something is nowhere.
    top, bottom = (f.reduce(array, axis=axis, keepdims=True) for f in (np.fmax, np.fmin))
    return np.asarray(top - bottom)


def is_somewhere(place: Place) -> bool:
    """Tell whether elements differ in where they lie; a pooled value lies everywhere, which is nowhere."""
    return bool(np.any(extent(place[Y:], tuple(range(1, place.ndim))) > NEAR))


def is_one_cell(place: Place) -> bool:
    """Tell whether elements lie in one place of the image, rather than nowhere as a class token does."""
    return not is_somewhere(place) and bool(np.isfinite(place[Y:]).any())


def same(a: Place, b: Place) -> bool:
    """Tell whether two places are equal."""
    if a is b or a.shape != b.shape:
        return a is b
    apart = np.abs(a - b) > NEAR  # False where either is nowhere
    return not apart.any() and np.array_equal(np.isnan(a), np.isnan(b))


def align(place: Place, rank: int) -> Place:
    """Return `place` with leading axes of size 1 up to `rank`, as broadcasting does."""
    missing = rank + 1 - place.ndim
    return place.reshape(3, *(1,) * missing, *place.shape[1:]) if missing > 0 else place


def fits(place: Place, shape: Sequence[int]) -> bool:
    """Tell whether `place` could be that of a value of this shape: not where the graph fixes a size, as of a batch."""
    return all(have in (1, size) for have, size in zip(place.shape[:0:-1], reversed(shape), strict=False))


def fill(place: Place, axis: int, size: int) -> Place:
    """Return `place` with its axis `axis` repeated to `size`, if it has size 1."""
    shape = list(place.shape)
    shape[axis + 1] = size if shape[axis + 1] == 1 else shape[axis + 1]
    return np.broadcast_to(place, shape)


def mean(place: Place, axes: Sequence[int]) -> Place:
    """Return the mean along axes that stay; what is nowhere does not count."""
    varied = tuple(a + 1 for a in axes if place.shape[a + 1] > 1)
    if not varied:
        return place
    known = ~np.isnan(place)
    total = np.where(known, place, 0).sum(axis=varied, keepdims=True, dtype=np.float64)
    count = known.sum(axis=varied, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


# ----- Movement -----


def reshape(place: Place, before: Sequence[int], after: Sequence[int]) -> Place | None:
    """Return the place of a value of shape `before` once it is reshaped to `after`."""
    if np.prod(before) != np.prod(after) or 0 in before:
        return None
    full: list[int] = []
    wanted: list[int] = []
    for old, new in _groups(before, after):
        varied = any(place.shape[1 + axis] > 1 for axis in old)
        full += [before[axis] if varied else 1 for axis in old]
        wanted += [after[axis] if varied else 1 for axis in new]
    return np.broadcast_to(place, (3, *full)).reshape(3, *wanted)


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[range, range]]:
    """Yield the smallest runs of axes that hold the same elements in both shapes."""
    i = j = 0
    while i < len(before) or j < len(after):
        start, stop = i, j
        have, want = 1, 1
        if i < len(before):
            have, i = before[i], i + 1
        if j < len(after):
            want, j = after[j], j + 1
        while have != want:
            if have < want:
                have, i = have * before[i], i + 1
            else:
                want, j = want * after[j], j + 1
        yield range(start, i), range(stop, j)


def concatenate(parts: Sequence[Place | None], sizes: Sequence[int], axis: int) -> Place | None:
    """Return the parts one after the other along `axis`, where they have `sizes`; None is nowhere.

    Where the parts agree and none changes along the axis (maps joined by their channels), neither does
    the result.
    """
    placed = [p for p in parts if p is not None]
    if all(p.shape[axis + 1] == 1 and same(p, placed[0]) for p in placed):
        return placed[0]
    others = [max(p.shape[k] for p in placed) for k in range(placed[0].ndim)]
    filled = []
    for part, size in zip(parts, sizes, strict=True):
        shape = [*others[: axis + 1], size, *others[axis + 2 :]]
        filled.append(np.broadcast_to(np.float32(np.nan) if part is None else part, shape))
    return np.concatenate(filled, axis=axis + 1)


# ----- Windows -----


def resample(place: Place, before: Sequence[int], after: Sequence[int]) -> Place | None:
    """Return the place of a map whose spatial axes come from `before` to `after` cells.

    The cells keep covering the same part of the image, in equal steps: what a network reads as a map
    is drawn over the whole of it, whatever its paddings lose at the border.

    Args:
        place: Of a value (N, C, *spatial).
        before: Sizes of the spatial axes.
        after: The same behind the operator.

    Returns:
        The new place, constant along channels; None if cells are not laid out along the axes.
    """
    place = mean(place, [1])
    rows = [_resample_row(place[k], after) for k in (SAMPLE, Y, X)]
    if any(row is None for row in rows):
        return place if list(before) == list(after) else None
    found = [row for row in rows if row is not None]
    shape = np.broadcast_shapes(*(row.shape for row in found))
    return np.stack([np.broadcast_to(row, shape) for row in found])


def _resample_row(row: NDArray[np.float32], after: Sequence[int]) -> NDArray[np.float32] | None:
    """Resample one coordinate, (N, 1, *spatial), which may change along one spatial axis only."""
    axes = range(2, row.ndim)
    varied = [axis for axis in axes if row.shape[axis] > 1 and np.any(extent(row, axis) > NEAR)]
    if len(varied) > 1:
        return None
    other = tuple(axis for axis in axes if axis not in varied)
    line = np.fmax.reduce(row, axis=other, keepdims=True) if other else row
    if not varied:
        return line
    (axis,) = varied
    moved = _resample_line(np.moveaxis(line, axis, -1), after[axis - 2])
    return None if moved is None else np.moveaxis(moved, -1, axis)


def _resample_line(line: NDArray[np.float32], cells: int) -> NDArray[np.float32] | None:
    """Lay `cells` evenly over what the last axis covers; None if that axis has no even steps."""
    known = ~np.isnan(line)
    size = line.shape[-1]
    first, last = np.argmax(known, axis=-1), size - 1 - np.argmax(known[..., ::-1], axis=-1)
    if np.any(last <= first):
        return None
    start, stop = (np.take_along_axis(line, at[..., None], -1) for at in (first, last))
    step = (stop - start) / (last - first)[..., None]
    expected = start + step * (np.arange(size) - first[..., None])
    if np.any(np.abs(line - expected)[known] > np.broadcast_to(np.abs(step) / 2, line.shape)[known]):
        return None
    width = stop - start + step
    return np.asarray(start - step / 2 + (np.arange(cells) + 0.5) / cells * width, np.float32)
