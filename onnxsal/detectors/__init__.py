"""What detectors output, read: one decoder per family of heads, written in ONNX operators, and the detections.

`families` fills the table of decoders; it stands apart because decoders need onnx_ir, which takes over a second to
import, and a compiled explanation runs without it.
"""

from onnxsal.detectors.detections import Detection, Detections

__all__ = ["Detection", "Detections"]
