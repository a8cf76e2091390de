"""Explanation methods, one file per family. Importing this package fills the registry."""

# In this order the command line, its help and panels list them.
# isort: off
from onnxsal.methods import gradient
from onnxsal.methods import modified
from onnxsal.methods import cam
from onnxsal.methods import noise
from onnxsal.methods import path
from onnxsal.methods import masking
from onnxsal.methods import drise

# isort: on
from onnxsal.methods.registry import MethodInfo, find_method, make_method, methods

__all__ = [
    "MethodInfo",
    "cam",
    "drise",
    "find_method",
    "gradient",
    "make_method",
    "masking",
    "methods",
    "modified",
    "noise",
    "path",
]
