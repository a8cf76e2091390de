"""What detectors output, read: one decoder per family of heads, written in ONNX operators, and the detections."""

# In this order heads are looked for: what says its name before what only has a telling shape.
# isort: off
from onnxsal.detectors import ultralytics
from onnxsal.detectors import yolox
from onnxsal.detectors import ultraface

# isort: on
from onnxsal.detectors.detections import Detection, Detections
from onnxsal.detectors.registry import Candidate, decoders, recognise

__all__ = [
    "Candidate",
    "Detection",
    "Detections",
    "decoders",
    "recognise",
    "ultraface",
    "ultralytics",
    "yolox",
]
