"""Photo to model input, as the card says, and maps back to the photo."""

from onnxsal.image.opening import open_image
from onnxsal.image.placement import Placement
from onnxsal.image.preprocessing import Preprocessed, preprocess, to_picture

__all__ = ["Placement", "Preprocessed", "open_image", "preprocess", "to_picture"]
