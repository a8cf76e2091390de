"""The last source: a guess from the input's shape and type, always announced as one."""

from collections.abc import Iterator
from typing import Any

from onnxsal.model.card.reading import Draft, Reading
from onnxsal.model.card.shapes import InputInfo, channel_count

# What PyTorch's ImageNet classifiers, and most others, were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What Caffe's were: blue first, of 0..255, less the means that Simonyan and Zisserman give with VGG (arXiv:1409.1556).
CAFFE = {"channels": "BGR", "scale": 1.0, "mean": (103.939, 116.779, 123.68), "std": (1.0,)}
CAFFE_PRODUCERS = ("onnx-caffe2",)
_NEUTRAL = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}
USUAL_RANGE, SIMPLEST = "guess, the usual range 0..1", "guess, the simplest"
UNUSED = "unused, as nothing is padded"
"""Sources of values that nothing of the model speaks for."""


def guesses(
    draft: Draft, image: InputInfo, classes: int | None, normalises: bool, producer: str = ""
) -> Iterator[Reading]:
    """Yield guesses for what no source said; each may build on those before it.

    Args:
        draft: The card so far, its layout already known.
        image: The image input.
        classes: How many classes the model has; None if unknown.
        normalises: Whether the graph itself scales its input.
        producer: Name of what wrote the file.
    """
    shape = f"guess from shape {image.shown_shape}"
    yield Reading(shape, {"size": None if draft.get("size") else (224, 224)})
    if producer.startswith(CAFFE_PRODUCERS) and not normalises and _like_caffe(draft, image, classes):
        yield Reading(f"guess: {classes} outputs, from Caffe", CAFFE)
    yield Reading(shape, {"channels": _channels(draft, image)})
    if classes is not None:
        yield Reading(f"guess from {classes} outputs", {"task": "classification"})
        yield Reading(f"guess from {classes} outputs", {"background": _background(draft, classes)})
    yield _pixels(draft, image, classes, normalises)
    yield _geometry(draft, classes)
    yield Reading("guess, the usual choice", {"interpolation": "bilinear"})
    yield _padding(draft.get("resize"))


def _channels(draft: Draft, image: InputInfo) -> str:
    count = channel_count(image, draft.get("layout"))
    mean: tuple[float, ...] = draft.get("mean") or ()
    # ImageNet's means differ enough to tell their order: (103.9, 116.8, 123.7) is Caffe's BGR.
    if count == 3 and len(mean) == 3 and mean[0] < mean[1] < mean[2] and 0.8 < mean[0] / mean[2] < 0.9:
        return "BGR"
    return {1: "GRAY", 4: "RGBA"}.get(count or 3, "RGB")


def _background(draft: Draft, classes: int) -> bool | None:
    labels = draft.get("labels")
    # 1001 are ImageNet's thousand and TensorFlow's background before them.
    return True if classes == (1001 if labels is None else len(labels) + 1) else None


def _pixels(draft: Draft, image: InputInfo, classes: int | None, normalises: bool) -> Reading:
    """Guess scale, mean and std together: what one source said of them decides the others."""
    said = {key: draft.get(key) for key in _NEUTRAL if draft.get(key) is not None}
    if said:
        unit = all(max(value) <= 1 for key, value in said.items() if key != "scale")
        return Reading(f"guess from {' and '.join(said)}", _NEUTRAL | {"scale": 1 / 255 if unit else 1.0})
    if image.dtype == "uint8":
        return Reading("guess from type uint8", _NEUTRAL)
    if image.dtype == "int8":
        return Reading("guess from type int8", _NEUTRAL | {"mean": (128.0,)})
    if normalises:
        return Reading("guess from the graph, which scales its input itself", _NEUTRAL)
    if not _like_imagenet(draft, classes):
        return Reading(USUAL_RANGE, _NEUTRAL | {"scale": 1 / 255})
    if classes == 1001:
        return Reading("guess: 1001 outputs, as TensorFlow trains", {"scale": 1 / 127.5, "mean": (1.0,), "std": (1.0,)})
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if draft.get("channels") == "BGR":
        mean, std = mean[::-1], std[::-1]
    return Reading("guess: 1000 outputs, as ImageNet", {"scale": 1 / 255, "mean": mean, "std": std})


def _geometry(draft: Draft, classes: int | None) -> Reading:
    if draft.get("resize") is not None:
        return Reading("guess", {})
    if draft.get("resize_to") is not None or draft.get("crop") is not None:
        return Reading("guess from resize_to and crop", {"resize": "shortest_edge", "crop": "center"})
    if not _like_imagenet(draft, classes):
        return Reading(SIMPLEST, {"resize": "stretch"})
    said: dict[str, Any] = {"resize_to": round(min(draft.get("size")) * 256 / 224), "crop": "center"}
    return Reading(f"guess: {classes} outputs, as ImageNet", said | {"resize": "shortest_edge"})


def _padding(resize: str) -> Reading:
    if resize not in ("letterbox", "top_left_pad", "fit_height"):
        return Reading(UNUSED, {"pad_value": 0.0})
    return Reading("guess, the usual choice", {"pad_value": 114.0 if resize == "letterbox" else 0.0})


def _like_caffe(draft: Draft, image: InputInfo, classes: int | None) -> bool:
    """Tell whether one of Caffe's models is of ImageNet, and nothing says how its pixels are prepared."""
    coloured = channel_count(image, draft.get("layout")) == 3 and image.dtype.startswith("float")
    return classes == 1000 and coloured and all(draft.get(key) is None for key in CAFFE)


def _like_imagenet(draft: Draft, classes: int | None) -> bool:
    photo_sized = 160 <= min(draft.get("size")) <= 600
    return classes in (1000, 1001) and photo_sized and draft.get("channels") in ("RGB", "BGR")
