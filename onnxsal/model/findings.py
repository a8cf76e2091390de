"""What methods need to know of a network: the image's float value, the classes, the layers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx_ir as ir

from onnxsal.errors import LayerError, UnsupportedModel
from onnxsal.graph.find import find_value
from onnxsal.graph.quantisation import quantisation_of
from onnxsal.graph.types import constant, dims, is_float
from onnxsal.model.card import ResolvedCard, plain
from onnxsal.model.grid import Grid, Layer
from onnxsal.model.heads import Head, find_head
from onnxsal.model.layers import candidate_layers, last_spatial

NAMED = 3
"""How many layers an error message suggests."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in a canonical graph, for one image input.

    Attributes:
        graph: The graph.
        image_input: Name of the input that takes the image.
        gradient_point: Name of the value gradients are taken at: the image input, which may be quantised,
            or the first such value behind it where that is of other integers.
        image_channel_axis: The axis of that value that holds the channels.
        spatial_axes: Its rows and columns.
        grid: Where each value's elements lie on the image.
        head: The classes.
    """

    graph: ir.Graph
    image_input: str
    gradient_point: str
    image_channel_axis: int
    spatial_axes: tuple[int, int]
    grid: Grid
    head: Head

    @property
    def gradient_point_reason(self) -> str:
        """Why gradients are not taken at the image input itself; empty where they are."""
        if self.gradient_point == self.image_input:
            return ""
        return (
            f"the image input {self.image_input!r} is of integers, which have no gradient: it is taken at "
            f"{self.gradient_point!r}, the first float value behind it"
        )

    @property
    def image_step(self) -> float:
        """What a step of a quantised image is worth in the numbers that gradients are taken at; 1 for any other."""
        q = quantisation_of(find_value(self.graph, self.image_input))
        scale = None if q is None or self.gradient_point != self.image_input else constant(q.scale)
        return 1.0 if scale is None or scale.size != 1 else float(scale.item())

    # ----- Layers -----

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers with a spatial extent between image and classes, in topological order."""
        return candidate_layers(self.grid, self.graph, self.gradient_point, self.head.logits)

    @cached_property
    def all_layers(self) -> list[Layer]:
        """The layers with a spatial extent between image and any output; a detector's boxes are no class output."""
        if self.head.logits is None:
            return self.layers
        return candidate_layers(self.grid, self.graph, self.gradient_point, None)

    @cached_property
    def default_layer(self) -> str | None:
        """The layer methods take unless told otherwise."""
        found = last_spatial(self.grid, self.graph, self.layers, self.head.logits)
        return found.name if found else None

    @property
    def default_layer_reason(self) -> str:
        """Why there is no default layer; empty where there is one."""
        if self.default_layer:
            return ""
        return "no value between image and classes has more than one place on the image; use gradient, which needs none"

    def layer(self, graph: ir.Graph, name: str | None) -> Layer:
        """Return the layer of that name (of a value or a node), or the default one.

        Raises:
            LayerError: There is none, or it has no spatial extent; the message has some that do.
        """
        if name is None:
            if self.default_layer is None:
                raise LayerError(f"the model has no layer to look at: {self.default_layer_reason}")
            name = self.default_layer
        found = self.layer_or_none(graph, name)
        if found is None:
            some = ", ".join(repr(plain(layer.name)) for layer in self.layers[: -NAMED - 1 : -1]) or "none"
            shape = dims(find_value(graph, name))
            raise LayerError(
                f"layer {plain(name)!r} has no spatial extent (its shape is {shape}); layers that do are, last first: "
                f"{some}; `onnxsal inspect` lists all"
            )
        return found

    def layer_or_none(self, graph: ir.Graph, name: str) -> Layer | None:
        """Return the layer of that name, or None where the value has no spatial extent.

        Raises:
            LayerError: There is no value or node of that name.
        """
        return self.grid.layer(str(find_value(graph, name).name))

    # ----- As facts -----

    def summary(self) -> dict[str, Any]:
        """Return what reading the model's outputs needs, as JSON types."""
        head = self.head
        return {
            "class_output": head.output,
            "output_class_axis": head.output_class_axis,
            "classes": head.classes,
            "activation": head.activation,
            "output_scale": head.output_scale,
            "output_zero_point": head.output_zero_point,
            "image_step": self.image_step,
            "reason": head.reason,
        }

    def head_facts(self) -> dict[str, Any]:
        """Return what was found about the classes, as JSON types."""
        gap = self.head.gap
        return self.summary() | {
            "logits": self.head.logits,
            "class_axis": self.head.class_axis,
            "gap": None if gap is None else {"pooled": gap.pooled, "features": gap.features},
            "gap_reason": self.head.gap_reason,
        }

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return the layers as JSON types."""
        return [
            {
                "name": layer.name,
                "node": layer.node,
                "op_type": layer.op_type,
                "shape": layer.shape,
                "kind": layer.kind,
                "grid": layer.grid,
                "extra": layer.extra,
            }
            for layer in self.layers
        ]


def find(model: ir.Model, card: ResolvedCard) -> Findings:
    """Analyse a canonical model.

    Raises:
        UnsupportedModel: No float value stands behind the image input.
    """
    graph = model.graph
    layout = card.card.layout or "NCHW"
    grid = Grid.of(model, card.image.name, layout, card.card.size)
    point = _gradient_point(graph, card.image.name)
    channel_axis = _channel_axis(grid, point, layout)
    axes = [axis for axis in (1, 2, 3) if axis != channel_axis]
    return Findings(
        graph=graph,
        image_input=card.image.name,
        gradient_point=str(point.name),
        image_channel_axis=channel_axis,
        spatial_axes=(axes[0], axes[1]),
        grid=grid,
        head=find_head(model, card.card.output),
    )


def _gradient_point(graph: ir.Graph, image_input: str) -> ir.Value:
    """Return the image input, or the first value computed from it that has gradients."""
    image = find_value(graph, image_input)
    if is_float(image) or quantisation_of(image):
        return image
    behind = {image}
    for node in graph:
        if behind.isdisjoint(v for v in node.inputs if v is not None):
            continue
        for value in node.outputs:
            numbers = is_float(value) or quantisation_of(value)
            if numbers and value.shape is not None and len(value.shape) == 4:
                return value
            behind.add(value)
    raise UnsupportedModel(f"no float value stands behind the image input {image_input!r}, so there is no gradient")


def _channel_axis(grid: Grid, point: ir.Value, layout: str) -> int:
    """Return the axis of channels: the card's, unless a Transpose stands between input and `point`."""
    layer = grid.layer(str(point.name))
    if layer is not None and layer.channel_axis in (1, 3):
        return layer.channel_axis
    return 3 if layout == "NHWC" else 1
