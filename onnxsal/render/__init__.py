"""Explanations as pictures."""

from onnxsal.render.bars import bars
from onnxsal.render.boxes import draw_boxes
from onnxsal.render.colormaps import COLORMAPS, colour
from onnxsal.render.heat import attribution_image, overlay
from onnxsal.render.panel import panel
from onnxsal.render.png import png_bytes

__all__ = ["COLORMAPS", "attribution_image", "bars", "colour", "draw_boxes", "overlay", "panel", "png_bytes"]
