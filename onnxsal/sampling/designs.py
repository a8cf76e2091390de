"""Which masks to draw: independent ones as in the paper, or a design whose cells balance each other.

Both give each cell the same chance, at any index, so they estimate the same map; the balanced one needs fewer masks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from onnxsal.sampling.masks import PART, Draws, MaskSpace
from onnxsal.sampling.streams import Purpose, below, uniforms


class Design(Protocol):
    """Masks by index."""

    @property
    def block(self) -> int:
        """The number of masks after which the cells are balanced; 2 where they never are."""
        ...

    def draw(self, start: int, stop: int) -> Draws:
        """Return the masks from index `start` up to `stop`."""
        ...


HELD = 8 << 20  # bytes


@dataclass(frozen=True)
class First:
    """The first masks of a design: held while they are few, else drawn again by whoever goes through them.

    Attributes:
        design: The design.
        count: How many.
    """

    design: Design
    count: int

    def __len__(self) -> int:
        """Return the number of masks."""
        return self.count

    def parts(self) -> Iterator[tuple[slice, Draws]]:
        """Yield where a part lies among all masks, and the part, in order."""
        return self._drawn() if self._held is None else iter(self._held)

    def _drawn(self) -> Iterator[tuple[slice, Draws]]:
        for start in range(0, self.count, PART):
            part = slice(start, min(start + PART, self.count))
            yield part, self.design.draw(part.start, part.stop)

    @cached_property
    def _held(self) -> list[tuple[slice, Draws]] | None:
        few = self.count * self.design.draw(0, 1).cells.nbytes <= HELD
        return list(self._drawn()) if few else None


@dataclass(frozen=True)
class Independent:
    """Each cell stays with probability `keep`, each shift is as likely as any other.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, section 3.2.

    Attributes:
        space: What the masks share.
        seed: Of what is drawn.
        keep: Probability that a cell stays.
    """

    space: MaskSpace
    seed: int
    keep: float

    @property
    def block(self) -> int:
        """Nothing balances: a pair."""
        return 2

    def draw(self, start: int, stop: int) -> Draws:
        """Return the masks from index `start` up to `stop`."""
        s, t = self.space.grid
        cells = [uniforms(self.seed, Purpose.CELLS, i, s * t) < self.keep for i in range(start, stop)]
        shifts = np.array([uniforms(self.seed, Purpose.SHIFTS, i, 2) for i in range(start, stop)]).reshape(-1, 2)
        return Draws(
            np.array(cells, np.float32).reshape(-1, s, t),
            below(len(self.space.rows), shifts[:, 0]),
            below(len(self.space.columns), shifts[:, 1]),
        )


@dataclass(frozen=True)
class Balanced:
    """Rows of a scrambled Hadamard matrix, each followed by its complement: each cell stays in half of a block's masks.

    Within a block any two cells are uncorrelated, and with the complements any three, so that what the score owes to
    one cell does not leak into the map of another. A mask and its complement have the same shift: what the score owes
    to an even number of cells together is the same under both, and cancels. Columns, signs and order are drawn anew
    for each block, which leaves each cell's chance at one half whatever the number of masks. The shifts follow the R2
    sequence (M. Roberts 2018, "The unreasonable effectiveness of quasirandom sequences") from a random start.

    Attributes:
        space: What the masks share.
        seed: Of what is drawn.
    """

    space: MaskSpace
    seed: int

    @property
    def block(self) -> int:
        """The number of masks after which the cells are balanced."""
        s, t = self.space.grid
        return 2 * _order(s * t)

    def draw(self, start: int, stop: int) -> Draws:
        """Return the masks from index `start` up to `stop`."""
        s, t = self.space.grid
        index = np.arange(start, stop)
        number, place = index // self.block, index % self.block
        cells = np.zeros((len(index), s * t), np.float32)
        for block in np.unique(number):
            here = number == block
            cells[here] = _hadamard_rows(self.seed, int(block), s * t, place[here])
        y, x = self._shifts(index // 2)
        return Draws(cells.reshape(-1, s, t), y, x)

    def _shifts(self, pair: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        first = uniforms(self.seed, Purpose.SHIFTS, 0, 2)
        points = (first + (pair + 1)[:, None] * np.array(R2)) % 1.0
        return below(len(self.space.rows), points[:, 0]), below(len(self.space.columns), points[:, 1])


PLASTIC = 1.32471795724474602596  # the real root of x³ = x + 1
R2 = (1 / PLASTIC, 1 / PLASTIC**2)


def _order(cells: int) -> int:
    """Return the order of the smallest Hadamard matrix with a column for each cell beside the constant one."""
    return 1 << int(cells).bit_length()


def _hadamard_rows(seed: int, block: int, cells: int, place: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the masks at some places of a block, (n, cells), of 0 and 1: rows of the matrix and their complements."""
    columns, signs, rows = _scrambled(seed, block, cells)
    # Entry (r, c) of Sylvester's matrix is -1 to the number of bits that r and c share.
    kept = (np.bitwise_count(rows[place // 2][:, None] & columns) % 2 == 1) ^ signs
    found: npt.NDArray[np.float32] = (kept ^ (place % 2 == 1)[:, None]).astype(np.float32)
    return found


@lru_cache(maxsize=4)
def _scrambled(
    seed: int, block: int, cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return a block's columns of the matrix, which of them are negated, and the order of its rows."""
    order = _order(cells)
    columns = 1 + np.argsort(uniforms(seed, Purpose.BLOCKS, 3 * block, order - 1))[:cells]
    signs = uniforms(seed, Purpose.BLOCKS, 3 * block + 1, cells) < 0.5
    return columns, signs, np.argsort(uniforms(seed, Purpose.BLOCKS, 3 * block + 2, order))
