"""Graph to graph differentiation of ONNX models; pure calculus, knows nothing of explanations."""

from onnxsal.autodiff import rules
from onnxsal.autodiff.registry import STANDARD, RuleBook, declare_zero
from onnxsal.autodiff.support import Support, supported
from onnxsal.autodiff.transform import vjp
from onnxsal.autodiff.unsupported import Unsupported, unsupported

__all__ = [
    "STANDARD",
    "RuleBook",
    "Support",
    "Unsupported",
    "declare_zero",
    "rules",
    "supported",
    "unsupported",
    "vjp",
]
