"""Maps of what is no picture: a bar per feature, or a cell per step and feature."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.render.colormaps import colour

if TYPE_CHECKING:
    from PIL import Image

HEIGHT, WIDTH = 160, 640
"""In pixels, at least."""


def bars(heat: npt.NDArray[Any]) -> "Image.Image":
    """Return a picture of a map in [0, 1] of features (1, F), as bars, or of steps and features (T, F), as cells."""
    from PIL import Image

    rows, columns = heat.shape
    wide = max(WIDTH // columns, 1)
    if rows > 1:
        cells = np.repeat(np.repeat(heat, max(HEIGHT // rows, 1), axis=0), wide, axis=1)
        return Image.fromarray(np.rint(255 * colour(cells.astype(np.float32), "turbo")).astype(np.uint8))
    from_below = np.arange(HEIGHT, 0, -1)[:, None] / HEIGHT
    filled = np.repeat(from_below <= heat, wide, axis=1)
    tint = colour(np.repeat(heat, wide, axis=1).astype(np.float32), "turbo")
    pixels = np.where(filled[:, :, None], tint, 1.0)
    return Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
