"""Explains the model that is deployed: the `.onnx` file itself, whatever framework trained it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxsal import autodiff as autodiff
    from onnxsal.api import explain as explain
    from onnxsal.api import load as load
    from onnxsal.detectors.detections import Detection as Detection
    from onnxsal.errors import OnnxsalError as OnnxsalError
    from onnxsal.explanation import Explanation as Explanation
    from onnxsal.explanation import LoopOptions as LoopOptions
    from onnxsal.explanation import Model as Model
    from onnxsal.explanation import Prediction as Prediction
    from onnxsal.explanation.arrays import ArrayModel as ArrayModel
    from onnxsal.model.card import Card as Card

_HOMES = {
    "ArrayModel": "onnxsal.explanation.arrays",
    "Card": "onnxsal.model.card",
    "Detection": "onnxsal.detectors.detections",
    "Explanation": "onnxsal.explanation",
    "LoopOptions": "onnxsal.explanation",
    "Model": "onnxsal.explanation",
    "OnnxsalError": "onnxsal.errors",
    "Prediction": "onnxsal.explanation",
    "explain": "onnxsal.api",
    "load": "onnxsal.api",
}

__all__ = [*_HOMES, "autodiff"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `onnxsal --help` needs none of them."""
    if name == "autodiff":
        return import_module("onnxsal.autodiff")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'onnxsal' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names too, before any of them is used: shells complete from this."""
    return sorted({*globals(), *__all__})
