"""Several heatmaps of one photo, side by side."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnxsal.maps import shrink
from onnxsal.render.boxes import draw_boxes
from onnxsal.render.heat import overlay
from onnxsal.render.text import fit, font

if TYPE_CHECKING:
    from PIL import Image

# In pixels. Tiny photos are enlarged so that titles and heat can be seen, large ones shrunk so that seven tiles fit a
# screen.
_SMALLEST, _LARGEST = 224, 448
_GAP, _TITLE, _FONT = 8, 26, 15
_COLUMNS = 4


def panel(
    photo: "Image.Image",
    heatmaps: Sequence[tuple[str, npt.NDArray[Any]]],
    *,
    alpha: float = 0.7,
    colormap: str | None = None,
    clip_percentile: float = 99.5,
    title: str = "photo",
    detection: tuple[tuple[float, float, float, float], str] | None = None,
) -> "Image.Image":
    """Return one picture with the photo and an overlay per heatmap, each under its title.

    Args:
        photo: RGB.
        heatmaps: (title, heatmap) pairs, each map as large as the photo, signed or not.
        alpha: As in `overlay`.
        colormap: As in `overlay`.
        clip_percentile: As in `overlay`.
        title: What stands above the photo.
        detection: A box in pixels of the photo, and its label, to be drawn on each.
    """
    width, height = _tile_size(photo)
    small = _resized(photo, (width, height))
    tiles = [(title, small)]
    for name, heatmap in heatmaps:
        heat = shrink(heatmap, (height, width))
        tiles.append((name, overlay(small, heat, alpha=alpha, colormap=colormap, clip_percentile=clip_percentile)))
    if detection is not None:
        (x1, y1, x2, y2), label = detection
        across, down = small.width / photo.width, small.height / photo.height
        box = (x1 * across, y1 * down, x2 * across, y2 * down)
        tiles = [(name, draw_boxes(tile, [box], [label])) for name, tile in tiles]
    return _grid(tiles)


def _tile_size(photo: "Image.Image") -> tuple[int, int]:
    longer = max(photo.size)
    grow = min(max(longer, _SMALLEST), _LARGEST) / longer
    return max(round(photo.width * grow), 1), max(round(photo.height * grow), 1)


def _resized(photo: "Image.Image", size: tuple[int, int]) -> "Image.Image":
    from PIL import Image

    return photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _grid(tiles: Sequence[tuple[str, "Image.Image"]]) -> "Image.Image":
    from PIL import Image, ImageDraw

    # A narrow photo still leaves room for its title.
    width, height = max(tiles[0][1].width, _SMALLEST // 2), tiles[0][1].height
    columns = min(len(tiles), _COLUMNS)
    rows = math.ceil(len(tiles) / columns)
    across, down = width + _GAP, height + _TITLE + _GAP
    canvas = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (title, tile) in enumerate(tiles):
        x, y = _GAP + index % columns * across, _GAP + index // columns * down
        draw.text((x, y + 2), fit(draw, title, _FONT, width), fill="black", font=font(_FONT))
        canvas.paste(tile, (x, y + _TITLE))
    return canvas
