"""Boxes with their labels, drawn on a photo."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnxsal.render.text import fit, font

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Box = tuple[float, float, float, float]

# Told apart by most eyes, also colour-blind ones: Okabe and Ito 2008, without black.
_COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#E69F00", "#0072B2")


def draw_boxes(photo: "Image.Image", boxes: Sequence[Box], labels: Sequence[str] | None = None) -> "Image.Image":
    """Return a copy of the photo with boxes on it.

    Args:
        photo: RGB.
        boxes: (x1, y1, x2, y2) in pixels of the photo, x2 and y2 exclusive; what lies outside is cut.
        labels: One line of plain text per box; None draws none.
    """
    from PIL import ImageDraw

    drawn = photo.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    # A 4000-pixel photo is shown shrunk; lines and letters grow with it.
    size = max(12, max(drawn.size) // 50)
    for index, box in enumerate(boxes):
        x1, y1, x2, y2 = _within(box, drawn.size)
        colour = _COLOURS[index % len(_COLOURS)]
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=max(2, size // 6))
        if labels is not None:
            _label(draw, (x1, y1), labels[index], colour, size, drawn.width)
    return drawn


def _within(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last pixel that the box covers, in each direction."""
    width, height = size
    x1, x2 = (min(max(round(x), 0), width - 1) for x in (box[0], box[2] - 1))
    y1, y2 = (min(max(round(y), 0), height - 1) for y in (box[1], box[3] - 1))
    return x1, y1, max(x1, x2), max(y1, y2)


def _label(draw: "ImageDraw.ImageDraw", at: tuple[int, int], text: str, colour: str, size: int, width: int) -> None:
    line = fit(draw, text, size, width - at[0])
    left, top, right, bottom = draw.textbbox((at[0] + 2, max(at[1] - size - 4, 0)), line, font=font(size))
    draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=colour)
    draw.text((at[0] + 2, max(at[1] - size - 4, 0)), line, fill="black", font=font(size))
