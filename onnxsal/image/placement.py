"""Where the photo lies within the model's input, and the way back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.image.resampling import interpolation_matrix, resample

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """The photo, resized to `resized`, lies with its top left corner at `offset` of the model's input.

    Where the offset is negative the photo is cropped, where room is left it is padded. All sizes are (height, width).
    Coordinates are continuous pixels: pixel k reaches from k to k + 1, boxes are (x1, y1, x2, y2).

    Attributes:
        photo: Size of the photo.
        size: Size of the model's input.
        resized: Size of the whole photo after resizing, before cropping and padding.
        offset: (top, left) of the resized photo in the model's input.
    """

    photo: tuple[int, int]
    size: tuple[int, int]
    resized: tuple[float, float]
    offset: tuple[float, float]

    @classmethod
    def identity(cls, height: int, width: int) -> "Placement":
        """Return the placement of an array that is the model's input already."""
        return cls((height, width), (height, width), (height, width), (0, 0))

    @property
    def content(self) -> tuple[int, int, int, int]:
        """The part of the model's input that shows the photo, as a box; the rest is padding."""
        (y1, y2), (x1, x2) = self._span(0), self._span(1)
        return x1, y1, x2, y2

    @property
    def seen(self) -> Box:
        """The part of the photo that the model sees, as a box; the rest was cropped."""
        return self.box_to_photo(self.content)

    def to_photo(self, heatmap: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return a map of the model's input as a map of the photo: (..., h, w) to (..., H, W), float32.

        Interpolates linearly between pixel centres, averaging where the photo is the smaller of the two. What the model
        did not see is 0, and padding never leaks in.

        Args:
            heatmap: Any resolution; it covers the whole input of the model.
        """
        rows = self._matrix(0, heatmap.shape[-2])
        columns = self._matrix(1, heatmap.shape[-1])
        return resample(heatmap, rows, columns)

    def box_to_photo(self, box: Box) -> Box:
        """Return a box of the model's input in pixels of the photo, cut at the photo's border."""
        (top, left), (sy, sx) = self.offset, self._scale
        height, width = self.photo
        x1, x2 = (min(max((x - left) / sx, 0.0), width) for x in (box[0], box[2]))
        y1, y2 = (min(max((y - top) / sy, 0.0), height) for y in (box[1], box[3]))
        return x1, y1, x2, y2

    def box_to_input(self, box: Box) -> Box:
        """Return a box of the photo in pixels of the model's input, cut at the input's border."""
        (top, left), (sy, sx) = self.offset, self._scale
        height, width = self.size
        x1, x2 = (min(max(x * sx + left, 0.0), width) for x in (box[0], box[2]))
        y1, y2 = (min(max(y * sy + top, 0.0), height) for y in (box[1], box[3]))
        return x1, y1, x2, y2

    def to_input(self, heatmap: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return a map of the photo as a map of the model's input: (..., H, W) to (..., h, w), float32; padding is 0.

        Interpolates linearly between pixel centres, averaging where the model's input is the smaller of the two.
        """
        rows, columns = (self._inverse(axis, heatmap.shape[axis - 2]) for axis in (0, 1))
        return resample(heatmap, rows, columns)

    def _inverse(self, axis: int, length: int) -> npt.NDArray[np.float32]:
        """Return (input pixels, map pixels) weights along one axis."""
        scale, per_pixel = self._scale[axis], length / self.photo[axis]
        centres = (np.arange(self.size[axis]) + 0.5 - self.offset[axis]) / scale
        first, last = self._span(axis)
        matrix = np.zeros((self.size[axis], length), np.float32)
        inside = slice(first, last)
        matrix[inside] = interpolation_matrix(centres[inside] * per_pixel, length, max(1.0, per_pixel / scale))
        return matrix

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the model's input per pixel of the photo, (vertical, horizontal)."""
        return self.resized[0] / self.photo[0], self.resized[1] / self.photo[1]

    def _span(self, axis: int) -> tuple[int, int]:
        start = max(round(self.offset[axis]), 0)
        return start, max(min(round(self.offset[axis] + self.resized[axis]), self.size[axis]), start)

    def _matrix(self, axis: int, length: int) -> npt.NDArray[np.float32]:
        """Return (photo pixels, map pixels) weights along one axis."""
        per_pixel = length / self.size[axis]
        scale = self._scale[axis]
        centres = (np.arange(self.photo[axis]) + 0.5) * scale + self.offset[axis]
        seen = (centres >= 0) & (centres < self.size[axis])
        # A map coarser than the input can have cells half content, half padding: those count as content.
        first, last = self._span(axis)
        low, high = int(np.floor(first * per_pixel)), int(np.ceil(last * per_pixel))
        matrix = np.zeros((self.photo[axis], length), np.float32)
        width = max(1.0, scale * per_pixel)
        matrix[seen, low:high] = interpolation_matrix(centres[seen] * per_pixel - low, high - low, width)
        return matrix
