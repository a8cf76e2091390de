"""Graph to graph differentiation of ONNX models; pure calculus, knows nothing of explanations."""

from onnxsal.autodiff import rules
from onnxsal.autodiff.registry import STANDARD, RuleBook
from onnxsal.autodiff.transform import vjp

__all__ = ["STANDARD", "RuleBook", "rules", "vjp"]
