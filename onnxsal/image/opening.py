"""Open a photo: whatever the file's kind, an upright 8-bit RGB image comes out."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxsal.errors import ImageError
from onnxsal.model.card import plain

if TYPE_CHECKING:
    from PIL import Image


def open_image(source: "str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any]") -> "Image.Image":
    """Return the photo as a Pillow image of mode RGB, turned as its EXIF orientation says.

    Transparent parts show white. Of several frames the first is taken. 16-bit grey is brought to 8 bits.

    Args:
        source: A path, a Pillow image, or a uint8 array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels
            in the order RGB or RGBA.

    Raises:
        ImageError: If the file is missing, not an image, truncated, or so large that it may be a decompression bomb.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "image")
    if not isinstance(source, str | os.PathLike):
        raise ImageError(f"an image is a path, a Pillow image or a uint8 array, not {type(source).__name__}")
    return _from_file(Path(source))


def _from_file(path: Path) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    name = plain(path)
    if not path.is_file():
        raise ImageError(f"{name}: " + ("is a folder, not an image" if path.is_dir() else "no such image file"))
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            # Pillow warns of files with more pixels than its limit, and refuses only those with twice as many.
            # It reads their size from the header, so nothing is decoded yet.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return _decode(image, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS} pixels, which may be a decompression bomb; shrink it first"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image, or of a kind Pillow cannot read; convert it to PNG or JPEG") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or _one_line(error)}") from error


def _decode(image: "Image.Image", name: str) -> "Image.Image":
    """Return a copy of the image as upright RGB."""
    try:
        image.load()
        return _to_rgb(_upright(image))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    # Pillow's readers let through whatever their parsers stumble over: struct.error, IndexError, SyntaxError, ...
    except Exception as error:
        raise ImageError(
            f"{name}: cannot be decoded ({_one_line(error)}); get it again if it is truncated or damaged, "
            "else save it as PNG or JPEG"
        ) from error


def _upright(image: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    # Damaged EXIF does not make a picture unreadable; it only cannot say which way is up.
    except Exception:
        return image


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_wide_grey(image)
    if image.mode == "F":
        raise ImageError("holds floating-point pixels, whose range it does not say; convert it to 8 bits first")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    # convert() of an image of the same mode still copies, so the caller's own stays apart.
    return image.convert("RGB")


def _from_wide_grey(image: "Image.Image") -> "Image.Image":
    """Return 16-bit grey as 8-bit; an image that stays within 0..255 is taken to be 8-bit already."""
    from PIL import Image

    pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    if pixels.max(initial=0) > 255:
        pixels = (pixels + 128) // 257
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")


def _from_array(array: "np.ndarray[Any, Any]") -> "Image.Image":
    from PIL import Image

    colours = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or colours not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"an image array is uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.dtype} of shape "
            f"{array.shape}; a float array must already have the model's own input shape"
        )
    pixels = array[:, :, 0] if array.ndim == 3 and colours == 1 else array
    return _to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _one_line(error: Exception) -> str:
    return plain(error, 200) or type(error).__name__
