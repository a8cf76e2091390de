"""What `freeze.py` writes and the test reads: graphs without their weights, and torch's gradients."""

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from parity.weights import Floats, uniform, weight

FOLDER = Path(__file__).with_name("data")
EXPORTERS = ("dynamo", "torchscript")
NOT_EXPORTED = {
    "deformable.torchscript": "writes no torchvision::deform_conv2d",
    "dinov2_registers.torchscript": "writes no aten::_upsample_bicubic2d_aa",
    "mobilevitv2.torchscript": "has no Col2Im at opset 17, and fails on the module's unfold from 18 on",
    "mixture.torchscript": "writes adaptive pooling only to sizes that divide the map's",
    "upernet.torchscript": "writes adaptive pooling only to sizes that divide the map's",
    "rt_detr_v2.dynamo": "writes no aten::_is_all_true, which the module's own checks leave behind",
}
"""Architecture and exporter, and what keeps that exporter from writing it."""


@dataclass(frozen=True)
class Reference:
    """What torch gave for one architecture, computed in float64.

    Attributes:
        size: Height and width of the input in pixels.
        gain: Of the weights, see `weights.weight`.
        numbers: Of the two images, among those tried for being away from kinks.
        scores: The module's output.
        gradient: Of <cotangent, scores> with respect to the input, flattened and thinned.
        thinned: Of how many elements of the gradient one is kept: an odd number meets the pixels of every
            stride, and a third of the file will do.
    """

    size: int
    gain: float
    numbers: NDArray[np.int64]
    scores: NDArray[np.float32]
    gradient: NDArray[np.float32]
    thinned: int = 3

    @property
    def x(self) -> Floats:
        """The input (2, 3, size, size)."""
        return images(self.numbers.tolist(), self.size)

    @property
    def cotangent(self) -> Floats:
        """The cotangent of the scores."""
        return uniform("cotangent", self.scores.shape)

    def thin(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the elements of a whole gradient that are kept."""
        return gradient.ravel()[:: self.thinned]

    def save(self, name: str) -> Path:
        """Write it under `name`."""
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, **vars(self))
        return path

    @classmethod
    def load(cls, name: str) -> "Reference":
        """Read it."""
        with np.load(FOLDER / f"{name}.npz") as saved:
            size, gain = int(saved["size"]), float(saved["gain"])
            # The first that were frozen have all of it.
            thinned = int(saved["thinned"]) if "thinned" in saved else 1
            return cls(size, gain, saved["numbers"], saved["scores"], saved["gradient"].ravel(), thinned)


def images(numbers: list[int], size: int) -> Floats:
    """Return images (N, 3, size, size) in [-1, 1)."""
    return np.concatenate([image(number, size) for number in numbers])


def image(number: int, size: int) -> Floats:
    """Return one image (1, 3, size, size) in [-1, 1), the same for the same `number`."""
    return uniform(f"input {number}", (1, 3, size, size))


def save_graph(model: onnx.ModelProto, parameters: set[str], name: str) -> Path:
    """Write `model` without the values of its `parameters`, and without its notes to the reader.

    Raises:
        ValueError: Something large is no parameter: a weight that lost its name.
    """
    stripped = onnx.ModelProto()
    stripped.CopyFrom(model)
    for tensor in stripped.graph.initializer:
        if tensor.name in parameters:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
        elif tensor.ByteSize() > 40_000:
            raise ValueError(f"{name}: initializer {tensor.name!r} {list(tensor.dims)} is no parameter of the module")
    strip_notes(stripped)
    path = FOLDER / f"{name}.onnx.xz"
    path.write_bytes(lzma.compress(stripped.SerializeToString(), preset=9 | lzma.PRESET_EXTREME))
    return path


def strip_notes(model: onnx.ModelProto) -> None:
    """Drop shapes, metadata and doc strings, which a reader of the graph can do without."""
    del model.metadata_props[:], model.graph.value_info[:], model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    for item in [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        item.doc_string = ""
        del item.metadata_props[:]


def load_graph(name: str, gain: float) -> onnx.ModelProto:
    """Return the graph `name`, its weights made anew from their names and shapes."""
    model = onnx.ModelProto()
    model.ParseFromString(lzma.decompress((FOLDER / f"{name}.onnx.xz").read_bytes()))
    for tensor in model.graph.initializer:
        values = int(np.prod(tensor.dims))
        if values and not (tensor.raw_data or tensor.float_data or tensor.int64_data or tensor.int32_data):
            tensor.raw_data = weight(tensor.name, tuple(tensor.dims), gain).tobytes()
    return model
