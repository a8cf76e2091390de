"""OpenVINO model_api: metadata keys `model_info <name>`, lists joined by spaces.

Source: github.com/open-edge-platform/model_api, `ImageModel.parameters` and `onnx_adapter.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from onnxsal.model.card.reading import Reading

_RESIZES = {
    "standard": "stretch",
    "fit_to_window": "top_left_pad",
    "fit_to_window_letterbox": "letterbox",
    # It crops to the aspect ratio and then resizes, which is what a filled input comes to.
    "crop": "shortest_edge",
}
_INTERPOLATIONS = {"LINEAR": "bilinear", "CUBIC": "bicubic", "NEAREST": "nearest"}
_TASKS = {
    "classification": "classification",
    "segmentation": "segmentation",
    "ssd": "detection",
    "maskrcnn": "detection",
    "detection_output": "detection",
}


def read_model_api(metadata: Mapping[str, str]) -> Reading | None:
    """Return what `model_info` metadata says, or None if there is none."""
    info = {key.removeprefix("model_info "): value for key, value in metadata.items() if key.startswith("model_info ")}
    if not info:
        return None
    said: dict[str, Any] = {
        "task": _task(info.get("model_type", "")),
        "resize": _RESIZES.get(info.get("resize_type", "")),
        "interpolation": _INTERPOLATIONS.get(info.get("interpolation_mode", "")),
    }
    notes: list[str] = []
    for key, read in _READERS.items():
        try:
            said |= read(info[key]) if info.get(key) else {}
        except ValueError:
            notes.append(f"model_info {key} is not what its name says; ignored")
    # It turns BGR photos into RGB. Without it the photo goes in as the caller has it, and its order stays unsaid.
    if info.get("reverse_input_channels", "").upper() in ("TRUE", "YES", "1"):
        said["channels"] = "RGB"
    if "mean_values" in info or "scale_values" in info:
        # These act on 0..255; the one that is left out is neutral.
        said = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)} | said
    intensity = info.get("intensity_mode", "none")
    if intensity == "scale_to_unit" and info.get("input_dtype", "u8") == "u8":
        said["scale"] = 1 / 255
    elif intensity != "none":
        notes.append("its intensity_mode has no word in a card; ignored")
    return Reading("metadata model_info", said, tuple(notes))


def _task(model_type: str) -> str | None:
    kind = model_type.casefold()
    return "detection" if kind.startswith("yolo") else _TASKS.get(kind)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "mean_values": lambda text: {"mean": _numbers(text)},
    "scale_values": lambda text: {"std": _numbers(text)},
    "pad_value": lambda text: {"pad_value": float(text)},
    # Spaces within a name were written as underscores; they stay, as the name may have had its own.
    "labels": lambda text: {"labels": tuple(text.split())},
}
