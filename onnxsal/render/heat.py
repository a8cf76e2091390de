"""A heatmap over its photo, and attributions in their own colours."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import ImageError, MethodError
from onnxsal.maps import clip_percentile
from onnxsal.render.colormaps import colour

if TYPE_CHECKING:
    from PIL import Image

# Below 1, so that middling heat shows its colour; linear cover would leave it to the photo.
_ALPHA_GAMMA = 0.6


def overlay(
    photo: "Image.Image",
    heatmap: npt.NDArray[Any],
    *,
    alpha: float = 0.7,
    colormap: str | None = None,
    clip_percentile: float = 99.5,
) -> "Image.Image":
    """Return the photo with the heatmap over it, as large as the photo.

    Where there is no heat the photo shows as it is; the hotter, the more colour covers it.

    Args:
        photo: RGB.
        heatmap: (H, W), as large as the photo. Negative values are drawn in the cold half of "diverging".
        alpha: How much of the photo the hottest pixel covers, in [0, 1].
        colormap: One of `COLORMAPS`; None takes "turbo", or "diverging" if the map has negative values.
        clip_percentile: Where the colour scale ends, see `onnxsal.maps.clip_percentile`.

    Raises:
        ImageError: If the sizes differ.
        MethodError: If a setting is outside its range.
    """
    from PIL import Image

    if heatmap.shape != (photo.height, photo.width):
        size = f"{photo.height} x {photo.width}"
        raise ImageError(f"a heatmap of shape {heatmap.shape} does not cover a photo of {size} (H x W)")
    _check_settings(alpha, clip_percentile)
    heat = _clipped(heatmap, clip_percentile)
    colormap = colormap or ("diverging" if (heat < 0).any() else "turbo")
    cover = (alpha * np.abs(heat) ** _ALPHA_GAMMA)[:, :, None]
    pixels = np.asarray(photo.convert("RGB"), np.float32)
    mixed = (1 - cover) * pixels + cover * 255 * colour(heat, colormap)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def attribution_image(
    attribution: npt.NDArray[Any], *, layout: str = "NCHW", channels: str = "RGB", clip_percentile: float = 99.5
) -> "Image.Image":
    """Return a signed attribution in its own colours, on grey: brighter counts for the target, darker against.

    This is how the papers on DeconvNet and Guided Backprop show theirs.

    Args:
        attribution: (C, H, W) or (H, W, C) as `layout` says, or (H, W).
        layout: "NCHW" or "NHWC".
        channels: The model's channel order; "BGR" is turned round.
        clip_percentile: As in `overlay`.
    """
    from PIL import Image

    _check_settings(1, clip_percentile)
    values = attribution[None] if attribution.ndim == 2 else attribution
    hwc = values.transpose(1, 2, 0) if layout == "NCHW" or attribution.ndim == 2 else values
    rgb = hwc[:, :, 2::-1] if channels in ("BGR", "BGRA") else hwc[:, :, :3]
    rgb = np.repeat(rgb[:, :, :1], 3, axis=2) if rgb.shape[2] != 3 else rgb
    return Image.fromarray(np.rint(127.5 + 127.5 * _clipped(rgb, clip_percentile)).astype(np.uint8))


def _clipped(values: npt.NDArray[Any], percentile: float) -> npt.NDArray[np.float32]:
    # A model can overflow; what is no number has no heat, and infinities are the hottest.
    return clip_percentile(np.nan_to_num(values.astype(np.float32), posinf=3e38, neginf=-3e38), percentile)


def _check_settings(alpha: float, percentile: float) -> None:
    if not 0 <= alpha <= 1:
        raise MethodError(f"alpha = {alpha} is not in [0, 1]")
    if not 0 < percentile <= 100:
        raise MethodError(f"clip_percentile = {percentile} is not in (0, 100]")
