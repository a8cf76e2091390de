"""Crowds: several real handwritten digits at known places in one cluttered picture, for the detector.

Made as the scenes are, of the same handwriting in the same splits, among the same decoys.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scenes import SPLITS, Box, Floats, Rng, draw, glyphs, place, touch, write

SIZE = 128
# Pixels that a glyph is enlarged to, the last exclusive: from those of the finest level to those of the coarsest.
SIDES = (22, 61)


@dataclass(frozen=True)
class Crowd:
    """A picture and what is true about it.

    Attributes:
        pixels: (SIZE, SIZE, 3) uint8, RGB.
        labels: The digits, 0 to 9, two to four of them.
        boxes: Around the ink of each: x1, y1, x2, y2 in pixels, x2 and y2 exclusive; they do not touch.
    """

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    boxes: tuple[Box, ...]


def held_out_crowds(count: int = 100, seed: int = 0) -> list[Crowd]:
    """Return pictures in handwriting that the detector has not seen.

    The same seed gives the same pictures, and fewer of them are the first of more.
    """
    return [make_crowd("held-out", seed, index) for index in range(count)]


def make_crowd(split: str, seed: int, index: int) -> Crowd:
    """Return picture number `index` of a split; it depends on nothing but its arguments."""
    rng = np.random.default_rng([list(SPLITS).index(split), seed, index, SIZE])
    labels, inks, boxes = zip(*digits(split, rng), strict=True)
    return Crowd(draw(split, list(inks), list(boxes), rng, SIDES), labels, boxes)


def digits(split: str, rng: Rng) -> Iterator[tuple[int, Floats, Box]]:
    """Yield the label, mask and box of two to four digits that do not touch."""
    images, labels = glyphs(split)
    taken: list[Box] = []
    wanted = rng.integers(2, 5)
    while len(taken) < wanted:
        chosen = int(rng.integers(len(labels)))
        ink, box = place(write(images[chosen], rng, SIDES), rng, SIZE)
        # Another digit elsewhere, where it does: four of the largest still find room.
        if not any(touch(box, other) for other in taken):
            taken.append(box)
            yield int(labels[chosen]), ink, box
