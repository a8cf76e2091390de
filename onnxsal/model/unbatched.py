"""Models that take one photo without an axis of samples, as torchvision's detectors are exported from a list of photos.

They get such an axis of one in front of their image, taken off within the graph, so that all else sees four axes.
"""

import dataclasses
from typing import TYPE_CHECKING

from onnxsal.errors import UnsupportedModel
from onnxsal.model.card import InputInfo
from onnxsal.model.source import PROTOBUF_LIMIT, Source

if TYPE_CHECKING:
    import onnx_ir as ir

LAST_OPSET_WITH_AXES_AS_ATTRIBUTE = 12
COLOURS = 3
SMALLEST = 16
"""Rows and columns from which three axes are a photo rather than a series with three channels."""


def takes_one_photo(source: Source) -> bool:
    """Tell whether a model's one input is (3, H, W) or (H, W, 3)."""
    inputs = source.signature.inputs
    shape = inputs[0].shape if len(inputs) == 1 else None
    if shape is None or len(shape) != 3:
        return False
    sides = shape[1:] if shape[0] == COLOURS else shape[:2]
    if shape[0] != COLOURS and (shape[2] != COLOURS or not isinstance(shape[0], int)):
        return False
    return all(not isinstance(side, int) or side >= SMALLEST for side in sides)


class OnePhoto(Source):
    """The model of another source, its image with an axis of one sample in front."""

    def __init__(self, source: Source) -> None:
        """Wrap a source; the hash stays that of its file."""
        self.path, self.data, self.sha256 = source.path, source.data, source.sha256
        (image,) = source.signature.inputs
        longer = InputInfo(image.name, image.dtype, (1, *(image.shape or ())))
        self.signature = dataclasses.replace(source.signature, inputs=(longer,))

    def load_ir(self) -> "ir.Model":
        """Return the graph with the longer input."""
        import onnx_ir as ir

        model = super().load_ir()
        (image,) = (v for v in model.graph.inputs if not v.is_initializer())
        name = str(image.name)
        longer = ir.Value(name=name, type=image.type, shape=ir.Shape([1, *(image.shape or ())]))
        image.name = f"{name}_alone"
        squeezed = _squeeze(model, longer, image.name)
        model.graph.insert_before(model.graph[0], squeezed)
        image.replace_all_uses_with(squeezed.outputs[0], replace_graph_outputs=True)
        model.graph.inputs[list(model.graph.inputs).index(image)] = longer
        squeezed.outputs[0].name, image.name = image.name, None
        squeezed.outputs[0].type, squeezed.outputs[0].shape = longer.type, ir.Shape(list(image.shape or ()))
        return model

    def runnable(self) -> bytes:
        """Return the longer model's bytes, weights included.

        Raises:
            UnsupportedModel: They are more than one ONNX file can hold.
        """
        import onnx_ir as ir

        if self.external_bytes >= PROTOBUF_LIMIT:
            raise UnsupportedModel(
                "the model takes one photo without an axis of samples, and is too large to be given one: export it "
                "with an input (1, 3, H, W)"
            )
        proto = ir.to_proto(ir.external_data.load_to_model(self.load_ir()))
        data: bytes = proto.SerializeToString()
        return data


def _squeeze(model: "ir.Model", value: "ir.Value", name: str) -> "ir.Node":
    """Return a node that takes the first axis off a value, as the model's opset writes it."""
    import onnx_ir as ir

    from onnxsal.graph.canonical import opset_of

    if opset_of(model) <= LAST_OPSET_WITH_AXES_AS_ATTRIBUTE:
        return ir.Node("", "Squeeze", [value], [ir.AttrInt64s("axes", [0])], num_outputs=1, name=name)
    axis = ir.Value(name=f"{value.name}_axis", const_value=ir.tensor([0], ir.DataType.INT64, name=f"{value.name}_axis"))
    model.graph.register_initializer(axis)
    return ir.Node("", "Squeeze", [value, axis], num_outputs=1, name=name)
