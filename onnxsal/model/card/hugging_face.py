"""Hugging Face: `preprocessor_config.json` and `config.json` beside the model; timm writes its own `config.json`.

Sources: transformers' image processors (ViT, ConvNext, EfficientNet, CLIP), timm's `data/config.py` and
`data/transforms_factory.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

from onnxsal.model.card.reading import Reading

# Pillow's numbers, as `resample` has them; box and Hamming have no word in a card.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_WORDS = ("nearest", "lanczos", "bilinear", "bicubic")
_TASKS = (
    ("ForImageClassification", "classification"),
    ("ForObjectDetection", "detection"),
    ("ForSemanticSegmentation", "segmentation"),
)


def read_preprocessor(config: Mapping[str, Any], where: str) -> Reading | None:
    """Return what a `preprocessor_config.json` says, or None if it prepares no images."""
    if not {"image_mean", "do_rescale", "do_normalize", "do_resize", "size"} & set(config):
        return None
    said = _geometry(config) | _values(config)
    said["interpolation"] = _RESAMPLE.get(_int_or(config.get("resample"), -1))
    notes = () if "resize" in said else ("its way of resizing has no word in a card; ignored",)
    return Reading(where, said, notes)


def read_config(config: Mapping[str, Any], where: str) -> Reading | None:
    """Return what a `config.json` says: timm's preprocessing, or the labels and task of transformers."""
    pretrained = config.get("pretrained_cfg", config)
    if isinstance(pretrained, Mapping) and {"input_size", "mean", "std"} <= set(pretrained):
        return Reading(where, _timm(pretrained) | {"labels": _timm_labels(config), "task": "classification"})
    if "id2label" not in config and "architectures" not in config:
        return None
    architectures = " ".join(map(str, config.get("architectures") or ()))
    task = next((task for ending, task in _TASKS if ending in architectures), None)
    labels = _numbered(config.get("id2label"))
    if labels is not None and all(label == f"LABEL_{k}" for k, label in enumerate(labels)):
        labels = None
    return Reading(where, {"labels": labels, "task": task})


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}
    if config.get("do_rescale", True):
        said["scale"] = _float_or(config.get("rescale_factor"), 1 / 255)
    if config.get("do_normalize", True):
        said["mean"] = _floats(config.get("image_mean")) or (0.0,)
        said["std"] = _floats(config.get("image_std")) or (1.0,)
    if config.get("rescale_offset"):
        # EfficientNet: pixel * factor - 1 comes before the mean.
        said["mean"] = tuple(value + 1 for value in said["mean"])
    return said


def _geometry(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate size, crop_size and crop_pct; {} where a card has no word for them (DETR's longest edge)."""
    if not config.get("do_resize", True):
        return {"resize": "none"}
    height, width, shortest = _sides(config.get("size"))
    crop = _sides(config.get("crop_size"))
    if config.get("do_center_crop") and crop[0] and crop[1] and (shortest or height):
        # An old-style single number means the shorter edge wherever a crop follows.
        single = isinstance(config.get("size"), int)
        resize = "shortest_edge" if shortest or single else "stretch"
        said = {"resize": resize, "resize_to": shortest or height, "crop": "center", "size": (crop[0], crop[1])}
        return said | {"rounding": "transformers"}
    if shortest and config.get("crop_pct"):
        # ConvNext: from 384 on it only stretches.
        if shortest >= 384:
            return {"resize": "stretch", "size": (shortest, shortest)}
        resize_to = int(shortest / _float_or(config["crop_pct"], 1.0))
        said = {"resize": "shortest_edge", "resize_to": resize_to, "crop": "center", "size": (shortest, shortest)}
        return said | {"rounding": "transformers"}
    if height and width:
        return {"resize": "stretch", "size": (height, width)}
    return {}


def _timm(pretrained: Mapping[str, Any]) -> dict[str, Any]:
    sides = pretrained["input_size"]
    said: dict[str, Any] = {"mean": _floats(pretrained["mean"]), "std": _floats(pretrained["std"]), "scale": 1 / 255}
    said["channels"] = "RGB"
    if pretrained.get("interpolation") in _WORDS:
        said["interpolation"] = pretrained["interpolation"]
    if not isinstance(sides, list | tuple) or len(sides) != 3 or not all(isinstance(s, int) and s > 0 for s in sides):
        return said
    said["size"] = (sides[1], sides[2])
    mode = pretrained.get("crop_mode") or "center"
    if mode == "border":
        return said | {"resize": "letterbox", "pad_value": 0.0}
    resize_to = math.floor(min(said["size"]) / _float_or(pretrained.get("crop_pct"), 0.875))
    resize = "stretch" if mode == "squash" else "shortest_edge"
    return said | {"resize": resize, "resize_to": resize_to, "crop": "center"}


def _timm_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = config.get("label_names")
    if not isinstance(names, list) or not names:
        return None
    described = config.get("label_descriptions")
    described = described if isinstance(described, Mapping) else {}
    return tuple(str(described.get(name, name)) if isinstance(name, str) else str(name) for name in names)


def _numbered(names: Any) -> tuple[str, ...] | None:
    """Return id2label as a tuple, or None unless it numbers the classes 0, 1, 2, ..."""
    if not isinstance(names, Mapping) or not names or set(map(str, names)) != set(map(str, range(len(names)))):
        return None
    by_number = {str(key): str(value) for key, value in names.items()}
    return tuple(by_number[str(k)] for k in range(len(by_number)))


def _sides(size: Any) -> tuple[int | None, int | None, int | None]:
    """Return (height, width, shortest edge), None for what is not said."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size, size, None
    if not isinstance(size, Mapping) or "longest_edge" in size:
        return None, None, None
    found = [size.get(key) for key in ("height", "width", "shortest_edge")]
    height, width, shortest = (side if isinstance(side, int) and side > 0 else None for side in found)
    return height, width, shortest


def _floats(values: Any) -> tuple[float, ...] | None:
    values = values if isinstance(values, list | tuple) else [values]
    if len(values) not in (1, 3, 4) or not all(isinstance(value, int | float) for value in values):
        return None
    return tuple(float(value) for value in values)


def _float_or(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _int_or(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default
