"""All decoders. Importing this module fills the table.

In this order heads are looked for: what says its name before what only has a telling shape.
"""

# isort: off
from onnxsal.detectors import ultralytics
from onnxsal.detectors import yolox
from onnxsal.detectors import ultraface

# isort: on
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoders, recognise

__all__ = ["Candidate", "Evidence", "Proposals", "decoders", "recognise", "ultraface", "ultralytics", "yolox"]
