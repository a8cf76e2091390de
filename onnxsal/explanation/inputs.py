"""What users hand in, a photo or an array or several, as model inputs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import ImageError, UnsupportedModel
from onnxsal.image import Placement, open_image, preprocess, to_picture
from onnxsal.model.card import InputInfo, ResolvedCard, plain

if TYPE_CHECKING:
    from PIL import Image

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image, ready for the model.

    Attributes:
        x: (1, ...), in the model's layout and type.
        placement: Where the photo lies in it.
        photo: The picture that maps are drawn on.
        name: What to call it.
    """

    x: Array
    placement: Placement
    photo: "Image.Image"
    name: str


class OtherInputs(dict[str, Array]):
    """The inputs beside the image, by name: with one sample for all images, one for each, or no samples at all."""

    def __init__(self, arrays: Mapping[str, Array], shared: Iterable[str] = ()) -> None:
        """Take arrays; those named in `shared` are for all images whatever the size of their first axis."""
        super().__init__(arrays)
        self._shared = frozenset(shared)

    def at(self, rows: Sequence[int]) -> "OtherInputs":
        """Return the inputs of the images at some positions."""
        whole = {name for name, a in self.items() if name in self._shared or a.ndim == 0 or a.shape[0] == 1}
        return OtherInputs({k: a if k in whole else a[list(rows)] for k, a in self.items()}, self._shared)


def read_samples(image: Any, card: ResolvedCard) -> tuple[list[Sample], bool]:
    """Return the images handed in, and whether there is only one, not a list or a batch.

    Args:
        image: A path, a Pillow image, a uint8 array (H, W[, C]), an array in the model's own input shape,
            with or without the batch; a list of these; or a batch.
        card: The model's card.

    Raises:
        ImageError: One of them is none of these, or does not fit the model.
    """
    if isinstance(image, list | tuple):
        samples = [s for i, item in enumerate(image) for s in _read(item, card, f"image_{i}")]
        return samples, False
    samples = _read(image, card, "image")
    return samples, len(samples) == 1


def _read(image: Any, card: ResolvedCard, name: str) -> list[Sample]:
    if isinstance(image, np.ndarray) and _is_model_input(image, card.image):
        return _from_model_input(image, card, name)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 4:
        return [_from_photo(photo, card, f"{name}_{i}") for i, photo in enumerate(image)]
    if isinstance(image, str | os.PathLike):
        name = Path(image).stem
    elif getattr(image, "filename", None):
        name = Path(str(image.filename)).stem
    return [_from_photo(image, card, name)]


def _is_model_input(image: Array, info: InputInfo) -> bool:
    """Tell an array for the model from a photo as an array, which is uint8 (H, W[, C])."""
    if image.dtype.kind == "f":
        return True
    return image.dtype == np.dtype(info.dtype) and image.ndim == 4 and _fits(image.shape, info)


def _fits(shape: Sequence[int], info: InputInfo) -> bool:
    declared = info.shape or (None,) * 4
    return len(shape) == len(declared) and all(
        not isinstance(want, int) or want == have for want, have in zip(declared[1:], shape[1:], strict=True)
    )


def _from_photo(image: Any, card: ResolvedCard, name: str) -> Sample:
    photo = open_image(image)
    ready = preprocess(photo, card.card, dtype=card.image.dtype, shape=card.image.shape)
    return Sample(ready.x, ready.placement, photo, name)


def _from_model_input(image: Array, card: ResolvedCard, name: str) -> list[Sample]:
    info = card.image
    batch = image if image.ndim == 4 else image[None]
    if batch.ndim != 4 or not _fits(batch.shape, info) or 0 in batch.shape:
        raise ImageError(
            f"an array of shape {image.shape} does not fit input {plain(info.name)!r} {info.shown_shape}; give one of "
            f"that shape, a uint8 array (H, W, C), a Pillow image or a path"
        )
    if not np.isfinite(batch).all():
        raise ImageError("the array has values that are not finite")
    height, width = (n for axis, n in enumerate(batch.shape) if axis not in (0, card.card.channel_axis))
    samples = []
    for i, x in enumerate(batch):
        called = f"{name}_{i}" if len(batch) > 1 else name
        ready = np.ascontiguousarray(x[None].astype(info.dtype))
        samples.append(Sample(ready, Placement.identity(height, width), to_picture(x, card.card), called))
    return samples


def read_other_inputs(
    given: Mapping[str, Any] | None, card: ResolvedCard, inputs: Sequence[InputInfo], count: int
) -> OtherInputs:
    """Return the inputs beside the image, from arrays or .npy files.

    Those by which detectors scale their boxes, if not given, say the size of the model's input, so that boxes come in
    its pixels.

    Raises:
        UnsupportedModel: One is missing; the message has all that are.
        ImageError: One is unknown, unreadable or of the wrong shape.
    """
    given = dict(given or {})
    others = {i.name: i for i in inputs if i.name != card.image.name}
    for name in given:
        if name not in others:
            have = ", ".join(repr(plain(n)) for n in others) or "none"
            raise ImageError(f"input {name!r}: the model has no such input beside the image; it has {have}")
    given = _sizes(card, others.values()) | given
    missing = [i for i in others.values() if i.name not in given]
    if missing:
        listed = ", ".join(f"{plain(i.name)!r} {i.dtype} {i.shown_shape}" for i in missing)
        raise UnsupportedModel(
            f"the model has inputs beside the image: {listed}; give them by --input NAME=FILE.npy, or "
            f"inputs={{...}} in Python"
        )
    shared = [i.name for i in others.values() if _is_shared(i, card.image.dim(0))]
    arrays = {
        name: _read_other(value, others[name], None if name in shared else count) for name, value in given.items()
    }
    return OtherInputs(arrays, shared)


def _is_shared(info: InputInfo, batch: int | str | None) -> bool:
    """Tell whether the first axis of an input is none of samples: its size is fixed, and not to the batch."""
    first = info.shape[0] if info.shape else None
    return isinstance(first, int) and first not in (1, batch)


def _sizes(card: ResolvedCard, inputs: Iterable[InputInfo]) -> dict[str, Array]:
    """Return what detectors of several families ask for about the photo, as if it were the model's input."""
    height, width = card.card.size or (0, 0)
    known = {
        "image_shape": [height, width],  # YOLOv3 of the ONNX model zoo
        "im_shape": [height, width],  # PaddleDetection
        "scale_factor": [1, 1],  # PaddleDetection
        "orig_target_sizes": [width, height],  # RT-DETR, D-FINE
    }
    numbers = [i for i in inputs if i.name in known and i.shape is not None and i.shape[-1:] in ((2,), (None,))]
    return {i.name: np.array([known[i.name]], np.float64) for i in numbers if i.shape and len(i.shape) == 2}


def _read_other(value: Any, info: InputInfo, count: int | None) -> Array:
    """Return an input as an array, for `count` images, or with no samples."""
    if isinstance(value, str | os.PathLike):
        try:
            value = np.load(value, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ImageError(f"input {info.name!r}: {value} is not a readable .npy file ({error})") from error
    array = np.asarray(value)
    declared = info.shape
    if declared is not None and array.ndim == len(declared) - 1:
        array = array[None]
    if declared is not None and (array.ndim != len(declared) or not _fits(array.shape, info)):
        raise ImageError(f"input {info.name!r}: shape {array.shape} does not fit {info.shown_shape}")
    if count is None and array.shape != tuple(declared or ()):
        raise ImageError(f"input {info.name!r}: shape {array.shape} does not fit {info.shown_shape}")
    if count is not None and array.ndim and array.shape[0] not in (1, count):
        raise ImageError(f"input {info.name!r}: {array.shape[0]} samples for {count} images; give 1 or {count}")
    return array.astype(info.dtype)
