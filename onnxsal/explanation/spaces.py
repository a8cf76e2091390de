"""What masks are made of on a photo of a given size, and which sizes make no sense there."""

import math

from onnxsal.errors import MethodError
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.masks import MaskSpace, rise_space, window_space

Content = tuple[int, int, int, int]
FEW_CELLS = 16
"""So many cells are no mistake, even where there are fewer pixels."""


def photo_space(content: Content, size: tuple[int, int], cells: int, edges: Edges) -> MaskSpace:
    """Return RISE's masks over the photo; padding around it is never masked.

    Args:
        content: Where the photo lies in the input, (x1, y1, x2, y2).
        size: Height and width of the input.
        cells: Rows and columns of cells; no more than there are of pixels are made.
        edges: How cells are enlarged.

    Raises:
        MethodError: There are more cells than pixels.
    """
    height, width = content[3] - content[1], content[2] - content[0]
    if cells > max(height, width, FEW_CELLS):
        raise MethodError(f"cells={cells} is more than the photo has pixels in the model's input, {height} x {width}")
    return rise_space(content, size, (min(cells, height), min(cells, width)), edges)


def square_space(content: Content, size: tuple[int, int], window: int | None, stride: int | None) -> MaskSpace:
    """Return masks that hide a square each: by default a seventh of the photo, moved by a quarter of itself.

    A seventh of the side of a square as large as the photo, so that a panorama takes no more windows than any photo.

    Raises:
        MethodError: The window is larger than the photo, or leaves out what lies between two.
    """
    height, width = content[3] - content[1], content[2] - content[0]
    window = window or max(round(math.sqrt(height * width) / 7), 1)
    if window > max(height, width):
        raise MethodError(f"window={window} is larger than the photo in the model's input, {height} x {width} pixels")
    return window_space(content, size, window, checked_stride(stride, window))


def checked_stride(stride: int | None, window: int) -> int:
    """Return how far it is from window to window, by default a quarter of one.

    Raises:
        MethodError: So far that what lies between would never be hidden.
    """
    if stride is not None and stride > window:
        raise MethodError(f"stride={stride} is more than window={window}: what lies between is never hidden")
    return stride or max(window // 4, 1)
