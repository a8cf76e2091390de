"""Control variates: what of the scores is foreseen, and what masks of such scores come out as, exactly.

Masks are weighted by what is left of the scores, which is less, and so is the noise; what was taken off is put back as
the map that it stands for. That map is known and not sampled: the estimand stays the same.

Source: A. Owen 2013, "Monte Carlo theory, methods and examples", section 8.9.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxsal.sampling.designs import HELD
from onnxsal.sampling.masks import Doubles, Draws, Integers, Masks, MaskSpace

PENALTIES = 10.0 ** np.arange(-3, 1, 0.5)
"""Tried by the regression, as parts of what the kept parts' variance sums up to."""
MOST_PARTS = 400
"""A fit takes time by the cube of the number of parts."""


@dataclass(frozen=True, eq=False)
class Controlled:
    """Scores, taken apart.

    Attributes:
        residuals: (n,), what is left of them.
        expected: (H, W) or a number, the map of what was taken off.
    """

    residuals: Doubles
    expected: Doubles | float


Control = Callable[[Doubles], Controlled]


def plain(scores: Doubles) -> Controlled:
    """Take nothing off."""
    return Controlled(scores, 0.0)


def centred(scores: Doubles) -> Controlled:
    """Take the mean score off; its map is the same number everywhere, as masks are `keep` in the mean."""
    mean = float(scores.mean())
    return Controlled(scores - mean, mean)


class Regression:
    """What the score owes to each part of the photo by itself: ridge regression on how much of it masks keep.

    What is foreseen for a mask follows from the others alone, its pair apart (masks 2i and 2i + 1), which keeps the
    estimate from being biased by more than a part in n; in closed form (Hastie, Tibshirani and Friedman 2009, "The
    elements of statistical learning", section 7.10, for two at a time). The penalty is the one that foresees best;
    where none helps, scores are but centred.
    """

    def __init__(self, space: MaskSpace, masks: Masks, keep: float) -> None:
        """Look at n masks, each of whose cells stays with probability `keep`."""
        self._parts, self._masks, self._keep = Parts(space), masks, keep
        self._axes = np.eye(self._parts.count)
        self._held: list[tuple[slice, Doubles]] | None = None
        spread, self._axes = np.linalg.eigh(sum(kept.T @ kept for _, kept in self._along()))
        penalties = PENALTIES * max(float(spread.mean()), np.finfo(float).tiny)
        self._shrunk = 1 / (np.maximum(spread, 0)[:, None] + penalties)
        size = len(masks) * self._parts.count * spread.itemsize
        self._held = list(self._along()) if size <= HELD else None

    def _along(self) -> Iterator[tuple[slice, Doubles]]:
        """Yield (n, parts), what masks keep along the axes, some masks at a time; held while it is little."""
        if self._held is not None:
            yield from self._held
            return
        for part, draws in self._masks.parts():
            kept = self._parts.of(draws, self._keep)
            # A mask without a partner gets one that tells nothing.
            yield part, np.concatenate([kept, np.zeros((len(kept) % 2, kept.shape[1]))]) @ self._axes

    def __call__(self, scores: Doubles) -> Controlled:
        """Take off what is foreseen."""
        mean = scores.mean()
        covariance = self._sum(scores - mean)
        residuals = self._residuals(scores - mean, covariance)
        errors = (residuals**2).mean(axis=0)
        best = int(errors.argmin())
        if not errors[best] < scores.var():
            return centred(scores)
        left, own = residuals[:, best], self._shrunk[:, best]
        # The mean of all slopes that were used, each found without a pair.
        slopes = self._axes @ (own * (covariance - 2 / len(left) * self._sum(left)))
        return Controlled(left - left.mean(), mean + left.mean() + self._parts.expected(slopes, self._keep))

    def _sum(self, weights: Doubles) -> Doubles:
        """Return (parts,), what masks keep along the axes, weighted (n,) and summed."""
        total = np.zeros(self._parts.count)
        for part, along in self._along():
            some = weights[part]
            total += along[: len(some)].T @ some
        return total

    def _residuals(self, scores: Doubles, covariance: Doubles) -> Doubles:
        """Return (n, penalties): scores, less what is foreseen without them and their partners."""
        slopes = self._shrunk * covariance[:, None]
        found = np.empty((len(scores), len(PENALTIES)))
        for part, along in self._along():
            some = np.concatenate([scores[part], np.zeros(len(along) - len(scores[part]))])
            error = some[:, None] - along @ slopes
            found[part] = self._without_own_pair(along, error)[: len(scores[part])]
        return found

    def _without_own_pair(self, along: Doubles, error: Doubles) -> Doubles:
        """Return what errors (n, penalties) become without what masks, and their partners, count for themselves."""
        remains = 1 - (along**2 @ self._shrunk).reshape(-1, 2, error.shape[1])
        cross = (along[::2] * along[1::2]) @ self._shrunk
        pairs = error.reshape(remains.shape)
        first = remains[:, 1] * pairs[:, 0] + cross * pairs[:, 1]
        second = remains[:, 0] * pairs[:, 1] + cross * pairs[:, 0]
        determinant = remains[:, 0] * remains[:, 1] - cross**2
        found: Doubles = (np.stack([first, second], axis=1) / determinant[:, None]).reshape(error.shape)
        return found


class Parts:
    """Equal rectangles of what is masked, one more each way than there are cells: as many as masks show at most.

    How much of a part a mask keeps is linear in its cells, and its covariance with every pixel is known exactly: a
    product along rows and columns, as shifts are independent along both.

    Attributes:
        count: How many there are.
    """

    def __init__(self, space: MaskSpace) -> None:
        """Divide what the masks of a space cover."""
        rows, columns = (weights.astype(np.float64) for weights in (space.rows, space.columns))
        down, across = part_counts(space)
        self.count = down * across
        self._left = _stretches(rows, down) @ rows
        self._right = _stretches(columns, across) @ columns
        self._down = np.mean(self._left @ rows.transpose(0, 2, 1), axis=0)
        self._across = np.mean(self._right @ columns.transpose(0, 2, 1), axis=0)

    def of(self, draws: Draws, keep: float) -> Doubles:
        """Return (n, parts): the mean of each mask over each part, less `keep`, which it is in the mean."""
        cells = draws.cells - np.float64(keep)
        across = _shifted_product(cells, self._right, draws.x)
        kept = _shifted_product(across.transpose(0, 2, 1), self._left, draws.y)
        return kept.transpose(0, 2, 1).reshape(len(draws), -1)

    def expected(self, slopes: Doubles, keep: float) -> Doubles:
        """Return (H, W): the map of a score that is the sum of slopes times kept parts."""
        grid = slopes.reshape(len(self._down), len(self._across))
        surface: Doubles = (1 - keep) * (self._down.T @ grid @ self._across)
        return surface


def part_counts(space: MaskSpace) -> tuple[int, int]:
    """Return rows and columns of parts."""
    sides = zip(space.grid, (len(space.rows), len(space.columns)), strict=True)
    down, across = (cells + (shifts > 1) for cells, shifts in sides)
    while down * across > MOST_PARTS:
        down, across = (-(-down // 2), across) if down > across else (down, -(-across // 2))
    return down, across


def _shifted_product(cells: Doubles, weights: Doubles, shifts: Integers) -> Doubles:
    """Return (n, a, parts) from cells (n, a, c), weights (shifts, parts, c), and which of these are each one's."""
    found = np.zeros((*cells.shape[:2], weights.shape[1]))
    # Shift by shift, as there are few of them: a matrix for each of thousands of masks may not fit into memory.
    for shift in np.unique(shifts):
        here = shifts == shift
        found[here] = cells[here] @ weights[shift].T
    return found


def _stretches(weights: Doubles, count: int) -> Doubles:
    """Return (count, pixels): means over equal stretches of the pixels that any cell shows in."""
    shown = np.flatnonzero(weights.any(axis=(0, 2)))
    pixels = np.arange(weights.shape[1])
    edges = np.linspace(shown[0], shown[-1] + 1, count + 1)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    means: Doubles = np.clip(covered, 0, 1) / np.diff(edges)[:, None]
    return means
