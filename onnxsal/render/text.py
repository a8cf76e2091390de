"""Text on pictures, in Pillow's built-in font: nothing to install, and the same on every machine."""

from functools import cache
from typing import TYPE_CHECKING

from onnxsal.model.card import plain

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont


@cache
def font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Return the built-in font; a Pillow built without FreeType has it in one small size only."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except ImportError:
        return ImageFont.load_default()


def fit(draw: "ImageDraw.ImageDraw", text: str, size: int, width: float) -> str:
    """Return the text, shortened with "..." to the width in pixels; control characters become spaces."""
    # The bitmap font knows Latin-1 only, and the other draws boxes for what it does not know.
    line = plain(text, 500).encode("latin-1", "replace").decode("latin-1")
    if draw.textlength(line, font=font(size)) <= width:
        return line
    while line and draw.textlength(line + "...", font=font(size)) > width:
        line = line[:-1]
    return line + "..."
