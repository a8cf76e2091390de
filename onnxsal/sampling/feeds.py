"""What the model with a mask before its image (`methods.masked`) is fed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.sampling.masks import Draws, MaskSpace

Array = npt.NDArray[Any]


def is_filled(fill: Array) -> bool:
    """Tell whether anything but zero is seen where a mask hides."""
    return bool(np.any(fill))


def image_feeds(x: Array, space: MaskSpace, fill: Array) -> dict[str, Array]:
    """Return the inputs that are the same in every run.

    Args:
        x: The image (1, ...).
        space: What the masks share.
        fill: What is seen where a mask hides, of the shape of `x` or broadcast to it.
    """
    framed = space.framed()
    hidden = np.broadcast_to(fill, x.shape).astype(np.float32)
    feeds = {"mask_rows": framed.rows, "mask_columns": framed.columns, "mask_shown": x.astype(np.float32) - hidden}
    return feeds | ({"mask_fill": hidden} if is_filled(fill) else {})


def mask_feeds(space: MaskSpace, draws: Draws) -> dict[str, Array]:
    """Return the inputs that say which masks."""
    return {"mask_cells": space.frame_cells(draws.cells), "mask_y": draws.y, "mask_x": draws.x}
