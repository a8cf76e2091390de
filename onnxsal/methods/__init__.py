"""Explanation methods, one file per family. Importing this package fills the registry."""

from onnxsal.methods import cam, gradient, modified
from onnxsal.methods.registry import MethodInfo, find_method, make_method, methods

__all__ = ["MethodInfo", "cam", "find_method", "gradient", "make_method", "methods", "modified"]
