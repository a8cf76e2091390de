"""Scenes: one real handwritten digit at a known place in a cluttered colour picture.

Everything a scene shows besides its digit is drawn at random: textured patches, blobs and lines
(also behind the digit), and, elsewhere, letter strokes and scrambled digits of the same ink. So a
model can only be right for the digit, and a saliency map is right where the digit is.

Needs numpy, scipy, pillow and scikit-learn (which ships the digits); no training framework.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

SIZE = 96

# load_digits keeps the order of its writers: whole writers go to one split. The borders are those
# of the scikit-learn MOOC, "Sample grouping":
# https://inria.github.io/scikit-learn-mooc/python_scripts/cross_validation_grouping.html
SPLITS = {
    "train": slice(0, 1287),  # 10 blocks
    "validation": slice(1287, 1415),  # 1
    "held-out": slice(1415, 1797),  # 3
}

Strokes = list[list[tuple[float, float]]]

# Letters that no digit looks like (so no B, D, I, O, S, Z), x and y in [0, 1].
LETTERS: dict[str, Strokes] = {
    "A": [[(0, 1), (0.5, 0), (1, 1)], [(0.2, 0.6), (0.8, 0.6)]],
    "E": [[(1, 0), (0, 0), (0, 1), (1, 1)], [(0, 0.5), (0.8, 0.5)]],
    "F": [[(1, 0), (0, 0), (0, 1)], [(0, 0.5), (0.8, 0.5)]],
    "H": [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 0.5), (1, 0.5)]],
    "K": [[(0, 0), (0, 1)], [(1, 0), (0, 0.5), (1, 1)]],
    "M": [[(0, 1), (0, 0), (0.5, 0.6), (1, 0), (1, 1)]],
    "N": [[(0, 1), (0, 0), (1, 1), (1, 0)]],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "W": [[(0, 0), (0.2, 1), (0.5, 0.4), (0.8, 1), (1, 0)]],
    "X": [[(0, 0), (1, 1)], [(1, 0), (0, 1)]],
}

Rng = np.random.Generator
Floats = NDArray[np.float64]
Box = tuple[int, int, int, int]
Sides = tuple[int, int]

# Pixels that a glyph is enlarged to, the last exclusive.
SIDES = (24, 41)


@dataclass(frozen=True)
class Scene:
    """A picture and what is true about it.

    Attributes:
        pixels: (SIZE, SIZE, 3) uint8, RGB.
        label: The digit, 0 to 9.
        box: Around the digit's ink: x1, y1, x2, y2 in pixels, x2 and y2 exclusive.
    """

    pixels: NDArray[np.uint8]
    label: int
    box: Box


def held_out_scenes(count: int = 200, seed: int = 0) -> list[tuple[NDArray[np.uint8], int, Box]]:
    """Return scenes in handwriting that the model has not seen, as (pixels, label, box).

    The same seed gives the same scenes, and fewer of them are the first of more.
    """
    scenes = (make_scene("held-out", seed, index) for index in range(count))
    return [(scene.pixels, scene.label, scene.box) for scene in scenes]


def make_scene(split: str, seed: int, index: int) -> Scene:
    """Return scene number `index` of a split; it depends on nothing but its arguments."""
    rng = np.random.default_rng([list(SPLITS).index(split), seed, index])
    images, labels = glyphs(split)
    chosen = int(rng.integers(len(labels)))
    ink, box = place(write(images[chosen], rng), rng)
    return Scene(draw(split, [ink], [box], rng), int(labels[chosen]), box)


def draw(split: str, inks: list[Floats], boxes: list[Box], rng: Rng, sides: Sides = SIDES) -> NDArray[np.uint8]:
    """Return the picture (size, size, 3) of digits in clutter.

    Args:
        split: Of whose handwriting the decoys are.
        inks: The digits' masks, each (size, size).
        boxes: Around each.
        rng: Draws all the rest.
        sides: Of the decoys that are scrambled digits, as for `write`.
    """
    canvas = background(rng, len(inks[0]))
    for distractor in (patch, blob, blob, line):
        for _ in range(rng.integers(1, 4)):
            distractor(canvas, rng)
    for mask in [*decoys(split, boxes, rng, len(canvas), sides), *inks]:
        paint(canvas, mask, ink_colour(canvas, mask, rng))
    canvas += rng.normal(0, rng.uniform(0, 0.04), canvas.shape)
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


@cache
def glyphs(split: str) -> tuple[Floats, NDArray[np.int64]]:
    """Return the digits of a split: (n, 8, 8) ink in [0, 1], and (n,) labels."""
    digits = load_digits()
    return digits.images[SPLITS[split]] / 16, digits.target[SPLITS[split]]


# Ink


def write(glyph: Floats, rng: Rng, sides: Sides = SIDES) -> Floats:
    """Enlarge a glyph smoothly, slightly turned, slanted and stretched."""
    side = int(rng.integers(*sides))
    angle, slant = rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.array([[rng.uniform(0.95, 1.1), 0], [slant, rng.uniform(0.95, 1.25)]])
    # Two empty pixels around the 8 x 8, as the ink often touches the border.
    matrix = turn @ shape * (9 / side)
    offset = 5.5 - matrix @ np.full(2, (side - 1) / 2)
    ink = ndimage.affine_transform(np.pad(glyph, 2), matrix, offset, (side, side), order=3, mode="constant")
    return np.clip((ink - 0.25) / 0.4, 0, 1)


def place(ink: Floats, rng: Rng, size: int = SIZE) -> tuple[Floats, Box]:
    """Put ink somewhere on an empty canvas; return its mask and the box around it."""
    y, x = (int(rng.integers(0, size - side + 1)) for side in ink.shape)
    mask = np.zeros((size, size))
    mask[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
    return mask, box_around(mask)


def box_around(mask: Floats) -> Box:
    """Return the smallest box with all ink that can be seen."""
    ys, xs = np.nonzero(mask > 0.1)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def ink_colour(canvas: Floats, mask: Floats, rng: Rng) -> Floats:
    """Draw a colour that can be read on what lies under the mask."""
    under = np.average(canvas.reshape(-1, 3), axis=0, weights=mask.ravel())
    colours = rng.uniform(0, 1, (16, 3))
    brightness = np.array([0.299, 0.587, 0.114])
    contrast = np.abs((colours - under) @ brightness)
    readable = np.nonzero(contrast > 0.35)[0]
    chosen: Floats = colours[readable[0] if len(readable) else contrast.argmax()]
    return chosen


# Decoys: ink that is no digit, and never touches it


def decoys(split: str, boxes: list[Box], rng: Rng, size: int = SIZE, sides: Sides = SIDES) -> list[Floats]:
    """Return the masks of two to four letters and scrambled digits, clear of the boxes."""
    taken, masks = list(boxes), []
    for _ in range(rng.integers(2, 5)):
        mask, own = place(letter(rng) if rng.random() < 0.5 else scrambled(split, rng, sides), rng, size)
        # A scene may have no room left; it then stays without.
        if not any(touch(own, other) for other in taken):
            taken.append(own)
            masks.append(mask)
    return masks


def touch(a: Box, b: Box) -> bool:
    """Tell whether two boxes come within two pixels of one another."""
    return all(a[i] < b[i + 2] + 2 and b[i] < a[i + 2] + 2 for i in (0, 1))


def letter(rng: Rng) -> Floats:
    """Draw a letter with a soft pen."""
    side = int(rng.integers(18, 34))
    strokes = LETTERS[str(rng.choice(list(LETTERS)))]
    width = max(2, round(side / rng.uniform(6, 9)))
    scale, margin = (side - 2 * width - 2) * rng.uniform(0.6, 1, 2), width + 1
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        points = np.array(stroke) * scale + margin + rng.normal(0, side / 30, (len(stroke), 2))
        pen.line([tuple(point) for point in points], fill=255, width=width, joint="curve")
    return np.clip(ndimage.gaussian_filter(np.asarray(image) / 255, 0.7) * 1.2, 0, 1)


def scrambled(split: str, rng: Rng, sides: Sides = SIDES) -> Floats:
    """Cut a glyph in four and put the quarters back turned and in another order."""
    images, labels = glyphs(split)
    glyph = images[rng.integers(len(labels))]
    quarters = [np.rot90(glyph[y : y + 4, x : x + 4], int(rng.integers(1, 4))) for y in (0, 4) for x in (0, 4)]
    a, b, c, d = (quarters[i] for i in rng.permutation(4))
    return write(np.block([[a, b], [c, d]]), rng, sides)


# What may lie anywhere


def background(rng: Rng, size: int = SIZE) -> Floats:
    """Return (size, size, 3) of slowly changing colour."""
    coarse = rng.uniform(0, 1, 3) + rng.normal(0, 0.15, (5, 5, 3))
    return np.clip(enlarge(coarse, size), 0, 1)


def patch(canvas: Floats, rng: Rng) -> None:
    """Lay a rectangle of stripes, checks or grain over the canvas."""
    size = len(canvas)
    y, x = rng.integers(-8, size - 16, 2)
    h, w = rng.integers(16, 48, 2)
    mask = np.zeros((size, size))
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = rng.uniform(0.3, 0.8)
    paint(canvas, mask * texture(rng, size), rng.uniform(0, 1, 3))


def texture(rng: Rng, size: int) -> Floats:
    """Return (size, size) of stripes, checks or grain, in [0, 1]."""
    ys, xs = np.mgrid[:size, :size]
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(0.5, 1.6)
    along = np.sin(pitch * (xs * np.cos(angle) + ys * np.sin(angle)))
    across = np.sin(pitch * (ys * np.cos(angle) - xs * np.sin(angle)))
    grain = rng.uniform(-1, 1, (size, size))
    chosen = (along, along * across, grain)[rng.integers(3)]
    return (chosen + 1) / 2


def blob(canvas: Floats, rng: Rng) -> None:
    """Lay a soft ellipse over the canvas."""
    size = len(canvas)
    ys, xs = np.mgrid[:size, :size]
    cy, cx = rng.uniform(0, size, 2)
    ry, rx = rng.uniform(5, 20, 2)
    distance = np.hypot((ys - cy) / ry, (xs - cx) / rx)
    soft = np.clip((1.15 - distance) / rng.uniform(0.1, 0.6), 0, 1)
    paint(canvas, soft * rng.uniform(0.4, 0.9), rng.uniform(0, 1, 3))


def line(canvas: Floats, rng: Rng) -> None:
    """Draw a straight line across the canvas."""
    size = len(canvas)
    image = Image.new("L", (size, size))
    ends = [float(end) for end in rng.uniform(-10, size + 10, 4)]
    ImageDraw.Draw(image).line(ends, fill=255, width=int(rng.integers(1, 4)))
    paint(canvas, np.asarray(image) / 255 * rng.uniform(0.4, 0.9), rng.uniform(0, 1, 3))


def paint(canvas: Floats, mask: Floats, colour: Floats) -> None:
    """Blend a colour into the canvas where the mask says so."""
    canvas += mask[..., None] * (colour - canvas)


def enlarge(coarse: Floats, size: int) -> Floats:
    """Return a coarse (n, n, 3) colour grid, smoothly enlarged to (size, size, 3)."""
    rise = cubic_basis(len(coarse), size)
    return np.asarray(np.einsum("yi,xj,ijc->yxc", rise, rise, coarse, optimize=True))


@cache
def cubic_basis(count: int, size: int) -> Floats:
    """Return (size, count): the cubic spline from `count` points to `size`."""
    zoom = (size / count, 1)
    return np.asarray(ndimage.zoom(np.eye(count), zoom, order=3, mode="nearest", grid_mode=True))
