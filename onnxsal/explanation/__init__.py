"""A loaded model, what is compiled from it, and the explanations it gives."""

from onnxsal.explanation.explanation import Explanation, Prediction
from onnxsal.explanation.loaded import Model
from onnxsal.explanation.loop_options import LoopOptions

__all__ = ["Explanation", "LoopOptions", "Model", "Prediction"]
