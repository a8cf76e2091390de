"""What graphs can be written for."""

from collections.abc import Mapping
from typing import Literal

from onnxsal.graph.builder import Runtime
from onnxsal.graph.web import WEB

RuntimeName = Literal["native", "gpu", "web"]

RUNTIMES: Mapping[RuntimeName, Runtime] = {"native": Runtime(blocks=True), "gpu": Runtime(), "web": Runtime(WEB)}
"""ONNX Runtime on a CPU; its other execution providers, CUDA, TensorRT, CoreML and the like; onnxruntime-web.

What is written for a CPU runs anywhere else too, but picks entries by convolutions, which CUDA may round: in batches
of 8 its masks were off at zeros (cosine .96 and .98 with the gradient written for a GPU, random ResNet-50 and
MobileNetV2), and it took 1.2 to 1.4 times as long.
"""
