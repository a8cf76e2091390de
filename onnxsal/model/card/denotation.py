"""ONNX's own image metadata: `Image.BitmapPixelFormat` and `Image.NominalPixelRange`.

Source: onnx/docs/MetadataProps.md. Keys and values ignore case. Neither mean nor std exists there.
"""

from collections.abc import Mapping
from typing import Any

from onnxsal.model.card.reading import Reading

_CHANNELS = {"gray8": "GRAY", "rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGBA", "bgra8": "BGRA"}
_RANGES: dict[str, dict[str, Any]] = {
    "nominalrange_0_255": {"scale": 1.0, "mean": (0.0,), "std": (1.0,)},
    "normalized_0_1": {"scale": 1 / 255, "mean": (0.0,), "std": (1.0,)},
    "normalized_1_1": {"scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)},
    "nominalrange_16_235": {"scale": 219 / 255, "mean": (-16.0,), "std": (1.0,)},
}


def read_denotation(metadata: Mapping[str, str]) -> Reading | None:
    """Return what `Image.*` metadata says, or None if there is none."""
    lower = {key.casefold(): value for key, value in metadata.items()}
    pixel_format = lower.get("image.bitmappixelformat")
    pixel_range = lower.get("image.nominalpixelrange")
    if pixel_format is None and pixel_range is None:
        return None
    said: dict[str, Any] = {"channels": _CHANNELS.get((pixel_format or "").casefold())}
    said |= _RANGES.get((pixel_range or "").casefold(), {})
    notes = []
    if pixel_format is not None and said["channels"] is None:
        notes.append("Image.BitmapPixelFormat is not one that ONNX names; ignored")
    if pixel_range is not None and "scale" not in said:
        notes.append("Image.NominalPixelRange is not one that ONNX names; ignored")
    return Reading("metadata Image.*", said, tuple(notes))
