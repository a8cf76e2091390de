"""How the entries of a sample of any shape lie in rows and columns, of which masks are made."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]
CHANNELS = (1, 3, 4)
"""So many along its first axis or its last make an array of three axes an image: grey, colours, colours and opacity."""


@dataclass(frozen=True)
class Plane:
    """Rows and columns of a sample.

    Attributes:
        shape: Of the sample, without the batch.
        channel_axis: Of an image, the axis of `shape` that its channels lie along; None of anything else.
        time_last: Of a series, whether its steps lie along the last axis rather than the first.
    """

    shape: tuple[int, ...]
    channel_axis: int | None = None
    time_last: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns: pixels of an image; else steps, and the entries of each. A vector is one step."""
        if self.channel_axis is not None:
            height, width = (n for axis, n in enumerate(self.shape) if axis != self.channel_axis)
            return height, width
        if len(self.shape) == 1:
            return 1, self.shape[0]
        steps = self.shape[-1 if self.time_last else 0]
        return steps, int(np.prod(self.shape)) // steps

    def spread(self, maps: Array) -> Array:
        """Return maps (n, rows, columns) as arrays that fit samples (n, ...); all channels of a pixel get the same."""
        if self.channel_axis is not None:
            return np.expand_dims(maps, self.channel_axis + 1)
        if self.time_last:
            return np.swapaxes(maps, 1, 2).reshape(len(maps), *self.shape)
        return maps.reshape(len(maps), *self.shape)

    def attribution(self, found: Array) -> Array:
        """Return a map (rows, columns) in the shape of a sample; of an image it stays, one for all channels."""
        return found if self.channel_axis is not None else self.spread(found[None])[0]

    def means(self, x: Array) -> Array:
        """Return each column's mean over all rows, of an image each channel's, to fit samples (1, ...)."""
        if self.channel_axis is not None:
            axes = tuple(axis + 1 for axis in range(3) if axis != self.channel_axis)
            return np.asarray(x.mean(axis=axes, keepdims=True))
        return np.asarray(x if len(self.shape) == 1 else x.mean(axis=-1 if self.time_last else 1, keepdims=True))

    def picture(self, x: Array) -> "Image.Image":
        """Return what an image (1, ...) shows, its least as black and its most as white."""
        from PIL import Image

        assert self.channel_axis is not None
        pixels = np.moveaxis(x[0].astype(np.float64), self.channel_axis, 2)[:, :, :3]
        span = float(np.ptp(pixels))
        bright = np.rint((pixels - pixels.min()) * (255 / span if span > 0 else 0)).astype(np.uint8)
        return Image.fromarray(np.repeat(bright, 3 // bright.shape[2], axis=2))


def plane_of(shape: tuple[int, ...], *, time_last: bool = False) -> Plane:
    """Return the plane of samples of a shape.

    Args:
        shape: Of a sample, without the batch.
        time_last: Of two axes, whether the steps of a series are the last.
    """
    if len(shape) == 3:
        # Channels of images lie first or last, and are few.
        for axis in (0, 2):
            others = [n for i, n in enumerate(shape) if i != axis]
            if shape[axis] in CHANNELS and min(others) > shape[axis]:
                return Plane(shape, channel_axis=axis)
    return Plane(shape, time_last=time_last and len(shape) == 2)
