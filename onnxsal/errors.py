"""What onnxsal raises on purpose; anything else that escapes is a bug.

OnnxsalError
├── ModelError           the model's file cannot be read, or is not valid ONNX
│   └── UnsupportedModel the model is valid, and onnxsal cannot explain it
├── MissingRule          a node between `wrt` and the target has no vjp rule
├── CardError            a model card says something that cannot be
├── ImageError           a picture cannot be read, or does not fit the model
├── TargetError          no such class, label, neuron or detection
├── DetectorError        a detector's output is of no known family, or not of the one named
├── LayerError           no such layer, or not one the method can use
├── MethodError          no such method or setting, or it does not fit the model
├── OutOfMemory          a run needs more memory than there is
├── RuntimeMissing       no ONNX Runtime, two of them, or not the provider asked for
└── OutputError          a file cannot be written, or would be overwritten
"""


class OnnxsalError(Exception):
    """Base of every error raised on purpose. The message is one line: what, where, and the way out."""


class ModelError(OnnxsalError):
    """Raised when a model file is missing, unreadable, truncated or not valid ONNX."""


class UnsupportedModel(ModelError):
    """Raised when a valid model lacks what an explanation needs, such as an image input."""


class MissingRule(OnnxsalError):
    """Raised when nodes between `wrt` and the target have no vjp rule; lists all of them."""


class CardError(OnnxsalError):
    """Raised when a card names an unknown key or gives a value outside those allowed."""


class ImageError(OnnxsalError):
    """Raised when a picture cannot be decoded, is too large, or does not fit the model's input."""


class TargetError(OnnxsalError):
    """Raised when a target names a class, label or neuron that the model does not have."""


class DetectorError(OnnxsalError):
    """Raised when no decoder, or not the one that was named, can read a detector's outputs."""


class LayerError(OnnxsalError):
    """Raised when a layer does not exist, or has no extent that the method could draw."""


class MethodError(OnnxsalError):
    """Raised for an unknown method or setting, or for a method that this model rules out."""


class OutOfMemory(OnnxsalError):
    """Raised when ONNX Runtime finds no memory for a run; loops then try with fewer samples."""


class RuntimeMissing(OnnxsalError):
    """Raised when ONNX Runtime is absent, installed twice, or lacks the provider asked for."""


class OutputError(OnnxsalError):
    """Raised when a file cannot be written, or stands there already."""
