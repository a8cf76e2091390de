"""Photo to model input, exactly as the card says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import CardError, ImageError
from onnxsal.image.placement import Placement

if TYPE_CHECKING:
    from PIL import Image

    from onnxsal.model.card import Card

# In pixels. A long narrow photo, its shorter side enlarged, would come to gigabytes; beyond this only what the model
# sees is resized.
_LARGEST_RESIZED = 50_000_000


@dataclass(frozen=True)
class Preprocessed:
    """A model input, and where the photo lies in it.

    Attributes:
        x: (1, C, H, W) or (1, H, W, C), in the model's own type.
        placement: Maps the way back.
    """

    x: npt.NDArray[Any]
    placement: Placement


def preprocess(
    image: "Image.Image",
    card: "Card",
    size: tuple[int, int] | None = None,
    dtype: str = "float32",
    shape: Sequence[int | str | None] | None = None,
) -> Preprocessed:
    """Return the model's input for one photo.

    Resizing antialiases, as Pillow and torchvision do; OpenCV, and so Ultralytics, does not, which moves scores in the
    second or third decimal.

    Args:
        image: The photo, RGB.
        card: A resolved card.
        size: (H, W) of the model's input; None takes the card's.
        dtype: NumPy's name of the model's input type.
        shape: The input's declared shape, to check against; None checks nothing.

    Raises:
        CardError: If the card leaves out what is needed, or an integer input gets values it cannot hold.
        ImageError: If the card takes photos as they are and this one does not fit.
    """
    for key in ("layout", "resize", "channels"):
        if getattr(card, key) is None:
            raise CardError(f"the card does not say {key}; preprocessing needs a resolved card")
    photo = (image.height, image.width)
    placement = place(photo, _input_size(card, size, shape, photo), card)
    pixels = _paint(image, placement, card)
    x = _as_type(normalise(pixels, card), dtype)
    x = x.transpose(2, 0, 1) if card.layout == "NCHW" else x
    _check_shape(x.shape, shape, card)
    return Preprocessed(np.ascontiguousarray(x[None]), placement)


def to_picture(x: npt.NDArray[Any], card: "Card") -> "Image.Image":
    """Return what a model input shows, as an RGB image: `preprocess` undone, resizing apart.

    Args:
        x: (C, H, W) or (H, W, C), as the card's layout says.
        card: A resolved card.
    """
    from PIL import Image

    hwc = x.transpose(1, 2, 0) if card.layout == "NCHW" else x
    divisor, mean, std = _numbers(card)
    pixels = np.nan_to_num((hwc.astype(np.float32) * std + mean) * divisor, posinf=255, neginf=0)
    rgb = pixels[:, :, [2, 1, 0]] if card.channels in ("BGR", "BGRA") else pixels[:, :, :3]
    eight_bit = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(eight_bit, 3, axis=2) if eight_bit.shape[2] == 1 else eight_bit)


# ----- Geometry -----


def place(photo: tuple[int, int], size: tuple[int, int], card: "Card") -> Placement:
    """Return where a photo of that size lies in the model's input."""
    if card.resize == "shortest_edge" and card.resize_to is None:
        # The largest centred part of the photo with the input's aspect ratio, cut before resizing: no whole pixels.
        cover = max(size[0] / photo[0], size[1] / photo[1])
        resized = (photo[0] * cover, photo[1] * cover)
        return Placement(photo, size, resized, ((size[0] - resized[0]) / 2, (size[1] - resized[1]) / 2))
    whole = _resized(photo, size, card)
    top, left = (_half(inside - outside, card) for inside, outside in zip(size, whole, strict=True))
    return Placement(photo, size, whole, (top, left))


def _half(room: int, card: "Card") -> int:
    """Return how much of the room between resized photo and input lies above or left; negative is cut off."""
    if card.resize == "letterbox":
        # Ultralytics' rounding: of an odd pixel, the right and lower side gets more.
        return round(room / 2 - 0.1)
    if card.resize in ("top_left_pad", "fit_height", "none"):
        return 0
    # torchvision rounds half to even; others count what is cut, and cut the smaller half off above and left.
    return -round(-room / 2) if (card.rounding or "torchvision") == "torchvision" else -(-room // 2)


def _resized(photo: tuple[int, int], size: tuple[int, int], card: "Card") -> tuple[int, int]:
    """Return the size of the whole photo after resizing."""
    (h, w), (height, width) = photo, size
    fit = min(height / h, width / w)
    if card.resize == "letterbox":
        return max(round(h * fit), 1), max(round(w * fit), 1)
    if card.resize == "top_left_pad":
        # YOLOX truncates.
        return max(int(h * fit), 1), max(int(w * fit), 1)
    if card.resize == "fit_height":
        # PaddleOCR rounds up.
        return height, min(-(-w * height // h), width)
    if card.resize == "shortest_edge":
        return _covering(photo, card)
    if card.resize == "stretch":
        grow = (card.resize_to or min(size)) / min(size)
        return round(height * grow), round(width * grow)
    return photo


def _covering(photo: tuple[int, int], card: "Card") -> tuple[int, int]:
    """Return the size whose shorter side is `resize_to`."""
    (h, w), shorter = photo, card.resize_to or 1
    longer = shorter * max(h, w) / min(h, w)
    rounded = round(longer) if card.rounding == "nearest" else int(longer)
    return (shorter, rounded) if h <= w else (rounded, shorter)


def _input_size(
    card: "Card",
    size: tuple[int, int] | None,
    shape: Sequence[int | str | None] | None,
    photo: tuple[int, int],
) -> tuple[int, int]:
    if card.resize == "none":
        declared = (shape[2:4] if card.layout == "NCHW" else shape[1:3]) if shape is not None else ()
        wanted = size or [side if isinstance(side, int) else have for side, have in zip(declared, photo, strict=False)]
        if wanted and tuple(wanted) != photo:
            raise ImageError(
                f"the photo has {photo[0]} x {photo[1]} pixels (H x W), the model takes {wanted[0]} x {wanted[1]} "
                "only, and the card says resize = 'none'; resize the photo, or say resize = 'stretch' in the card"
            )
        return photo
    size = size or card.size
    if size is None:
        raise CardError("the card does not say size, and the model takes any; give size = [H, W] in the card")
    return size


# ----- Pixels -----


def _paint(image: "Image.Image", placement: Placement, card: "Card") -> npt.NDArray[np.uint8 | np.float32]:
    """Return the model's input before normalisation, (H, W, C) in 0..255."""
    x1, y1, x2, y2 = placement.content
    content = _in_channels(_resize(image, placement, card), card.channels or "RGB")
    if (y2 - y1, x2 - x1) == placement.size:
        return content
    canvas = np.full((*placement.size, content.shape[2]), card.pad_value or 0, np.float32)
    canvas[y1:y2, x1:x2] = content
    return canvas


def _resize(image: "Image.Image", placement: Placement, card: "Card") -> "Image.Image":
    """Return the part of the photo that the model sees, at the size of the input's content."""
    from PIL import Image

    if card.channels == "GRAY":
        image = image.convert("L")
    resample = Image.Resampling[(card.interpolation or "bilinear").upper()]
    x1, y1, x2, y2 = placement.content
    height, width = placement.resized
    if isinstance(height, int) and isinstance(width, int) and height * width <= _LARGEST_RESIZED:
        # Resizing the part alone differs in one pixel of ten thousand, by 1; seen on an INT8 MobileNetV2, that moved a
        # probability from 0.60 to 0.82.
        top, left = (round(offset) for offset in placement.offset)
        return image.resize((width, height), resample).crop((x1 - left, y1 - top, x2 - left, y2 - top))
    return image.resize((x2 - x1, y2 - y1), resample, box=placement.seen)


def _in_channels(image: "Image.Image", channels: str) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(image)
    if channels == "GRAY":
        return pixels[:, :, None]
    if channels in ("BGR", "BGRA"):
        pixels = pixels[:, :, ::-1]
    if channels in ("RGBA", "BGRA"):
        # Photos come opaque: open_image has laid them on white.
        pixels = np.concatenate([pixels, np.full_like(pixels[:, :, :1], 255)], axis=2)
    return pixels


def _numbers(card: "Card") -> tuple[np.float32, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return 1/scale, mean and std; what the card leaves out is neutral."""
    divisor = np.float32(1 / (card.scale or 1))
    return divisor, np.array(card.mean or (0,), np.float32), np.array(card.std or (1,), np.float32)


def normalise(pixels: npt.NDArray[Any], card: "Card") -> npt.NDArray[Any]:
    """Return pixels (H, W, C) in 0..255 as the model's input has them."""
    divisor, mean, std = _numbers(card)
    if divisor == 1 and not mean.any() and (std == 1).all():
        return pixels
    # Multiplying by 1/255 would differ from torchvision, which divides, in the last bit.
    return (pixels.astype(np.float32) / divisor - mean) / std


def _as_type(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    if not np.issubdtype(np.dtype(dtype), np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    rounded = np.rint(values)
    if rounded.size and (rounded.min() < limits.min or rounded.max() > limits.max):
        raise CardError(
            f"scale, mean and std of the card give values from {rounded.min():g} to {rounded.max():g}, which the "
            f"model's {dtype} input cannot hold; it usually takes raw pixels: scale = 1"
            + (", mean = 128" if dtype == "int8" else "")
        )
    integers: npt.NDArray[Any] = rounded.astype(dtype)
    return integers


def _check_shape(got: tuple[int, ...], shape: Sequence[int | str | None] | None, card: "Card") -> None:
    if shape is None:
        return
    fits = [want == have for want, have in zip(shape[1:], got, strict=False) if isinstance(want, int)]
    if len(shape) != 4 or not all(fits):
        raise CardError(
            f"layout {card.layout}, channels {card.channels} and size {list(card.size or ())} of the card give an "
            f"input of shape {(1, *got)}, and the model takes {tuple(shape)}; correct the card"
        )
