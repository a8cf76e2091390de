"""All decoders. Importing this module fills the table.

In this order heads are looked for: what says its name before what only has a telling shape.
"""

# isort: off
from onnxsal.detectors import ultralytics
from onnxsal.detectors import yolo
from onnxsal.detectors import yolox
from onnxsal.detectors import boxes_and_classes
from onnxsal.detectors import yolo_nas
from onnxsal.detectors import yolov3
from onnxsal.detectors import yolov4
from onnxsal.detectors import yolo_maps
from onnxsal.detectors import retinanet
from onnxsal.detectors import nanodet
from onnxsal.detectors import centernet
from onnxsal.detectors import detr
from onnxsal.detectors import tensorflow
from onnxsal.detectors import ultraface
from onnxsal.detectors import faces
from onnxsal.detectors import final

# isort: on
from onnxsal.detectors.registry import Candidate, Evidence, Proposals, decoders, recognise

__all__ = [
    "Candidate",
    "Evidence",
    "Proposals",
    "boxes_and_classes",
    "centernet",
    "decoders",
    "detr",
    "faces",
    "final",
    "nanodet",
    "recognise",
    "retinanet",
    "tensorflow",
    "ultraface",
    "ultralytics",
    "yolo",
    "yolo_maps",
    "yolo_nas",
    "yolov3",
    "yolov4",
    "yolox",
]
