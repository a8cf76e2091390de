"""Layers with a spatial extent: which values hold one vector per cell of a grid over the image.

A convolution's output is such a layer as it is; tokens of a transformer, windows of a Swin and maps
of an NHWC graph are one once their cells are put in order. The order is not guessed from names or
sizes: each value's elements are followed from the image's pixels on (`walk`), so class tokens,
register tokens, shifted windows and merged batches are seen for what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.quantisation import quantisation_of
from onnxsal.graph.shapes import Shape, Shapes
from onnxsal.graph.types import FLOATS, Dim, dims
from onnxsal.model.cells import Cells, read_cells
from onnxsal.model.places import Place, of_image
from onnxsal.model.walk import Walked, interpret

CHANNELS, SIDE = 3, 224
"""Sizes of an image input about which nothing is known."""


@dataclass(frozen=True)
class Layer:
    """A value that holds a vector for each cell of a grid over the image.

    Attributes:
        name: Name of the value.
        node: Name of the node that makes it; empty for a graph input.
        op_type: Its operator; empty for a graph input.
        shape: As the model stores it: numbers, names, None where nothing is known.
        kind: `map` (N, C, h, w), `map-nhwc`, `tokens` (three axes in any order), or `windows`: cells in
            whatever order, with the batch perhaps in one axis with the windows.
        grid: Rows and columns.
        channels: Size of the channel axis.
        channel_axis: The axis of the vector.
        batch_axis: The axis of the samples; None where they share axis 0 with windows, sample by sample.
        extra: Cells that lie nowhere and are left out: class and register tokens, padding.
        order: For each cell of the grid, row by row, its position among the axes that are neither batch
            nor channel, flattened; a range where they follow one another.
    """

    name: str
    node: str
    op_type: str
    shape: tuple[Dim, ...]
    kind: str
    grid: tuple[int, int]
    channels: int
    channel_axis: int
    batch_axis: int | None
    extra: int
    order: Sequence[int] = field(repr=False)

    @property
    def positions(self) -> int:
        """Cells a sample has, those left out included."""
        return len(self.order) + self.extra


class Grid:
    """Where the elements of each value of a graph lie on the image.

    The analysis holds for one image size. It follows two samples where the batch is dynamic, so that
    it sees how samples share an axis, and one where the model takes no more.
    """

    def __init__(self, graph: ir.Graph, image: ir.Value, shapes: Shapes, walked: Walked, batch: int) -> None:
        """Wrap what was found; `Grid.of` finds it."""
        self._image = image
        self._outputs = list(graph.outputs)
        self._values = {str(v.name): v for v in [*graph.inputs, *(v for node in graph for v in node.outputs)]}
        self._shapes = shapes
        self._walked = walked
        self._batch = batch
        self._layers: dict[str, Layer | None] = {}
        self._read: dict[tuple[int, Shape], Cells | None] = {}

    @classmethod
    def of(cls, model: ir.Model, image: str, layout: str, size: tuple[int, int] | None = None) -> "Grid":
        """Follow the image through a model in canonical form.

        Args:
            model: The model; it is left as it is.
            image: Name of the image input.
            layout: `NCHW` or `NHWC`.
            size: Height and width of the image; None takes the model's own, and 224 where it has none.
        """
        value = next(v for v in model.graph.inputs if v.name == image)
        known = dims(value) or (None,) * 4
        fixed = known[0] if isinstance(known[0], int) else None
        found = cls._follow(model, value, layout, size, fixed or 2)
        if fixed is None and found._misfits:
            # Perhaps the exporter wrote a batch of one into the graph, whatever its input says.
            alone = cls._follow(model, value, layout, size, 1)
            return alone if alone._misfits < found._misfits else found
        return found

    @classmethod
    def _follow(cls, model: ir.Model, image: ir.Value, layout: str, size: tuple[int, int] | None, batch: int) -> "Grid":
        last = layout == "NHWC"
        shape = _image_shape(dims(image) or (), last, size, batch)
        sizes = {str(v.name): _sizes_of(v, batch) for v in model.graph.inputs if not v.is_initializer()}
        shapes = Shapes(model, sizes | {str(image.name): shape}).walk()
        if len(shape) != 4:
            return cls(model.graph, image, shapes, Walked(), batch)
        height, width = shape[1:3] if last else shape[2:4]
        place = of_image(batch, height, width, channels_last=last)
        return cls(model.graph, image, shapes, interpret(model.graph, shapes, image, place), batch)

    @property
    def _misfits(self) -> int:
        """How many values have no shape, and outputs no multiple of the batch."""
        unknown = sum(self._shapes.shape(v) is None for v in self._values.values())
        shapes = [self._shapes.shape(v) for v in self._outputs]
        return unknown + sum(shape[0] % self._batch != 0 for shape in shapes if shape)

    def value(self, name: str) -> ir.Value:
        """Return the value of that name, which exists."""
        return self._values[name]

    def outputs(self) -> dict[str, tuple[Dim, ...]]:
        """Return the shape by name of the graph's outputs, in order: as the file has it, its open sizes as found here.

        The samples' axis stays as it is, and so does what only the run knows.
        """
        return {str(v.name): self._settled(v) for v in self._outputs}

    def _settled(self, output: ir.Value) -> tuple[Dim, ...]:
        known, shape = dims(output), self._shapes.shape(output)
        if shape is None or (known is not None and len(known) != len(shape)):
            return known or ()
        known = known or (None,) * len(shape)
        return known[:1] + tuple(d if isinstance(d, int) else n for d, n in zip(known[1:], shape[1:], strict=True))

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Return the element type, also behind operators that ONNX has no schema for."""
        return self._shapes.dtype(value)

    def has_gradient(self, value: ir.Value) -> bool:
        """Tell whether `value` is of floats, or of integers that stand for real numbers."""
        return self.dtype(value) in FLOATS or quantisation_of(value) is not None

    def has_place(self, value: ir.Value) -> bool:
        """Tell whether elements of `value` lie somewhere on the image."""
        return value in self._walked.places

    def place(self, value: ir.Value) -> Place | None:
        """Return where the elements of `value` lie (`places`), or None if nowhere."""
        return self._walked.places.get(value)

    def carriers(self, node: ir.Node) -> list[ir.Value]:
        """Return the inputs of `node` whose cells are the cells of its outputs, rather than mixed there."""
        return self._walked.carriers.get(node, [])

    def takes_one_cell(self, node: ir.Node) -> bool:
        """Tell whether an output of `node` is one cell of its input, which alone forms no grid."""
        return node in self._walked.singles

    def layer(self, name: str) -> Layer | None:
        """Return the value of that name as a layer, or None where its elements form no grid."""
        if name not in self._layers:
            value = self._values.get(name)
            self._layers[name] = None if value is None else self._find(value)
        return self._layers[name]

    def _find(self, value: ir.Value) -> Layer | None:
        place, shape = self.place(value), self._shapes.shape(value)
        if place is None or shape is None:
            return None
        # How many channels there are does not matter to the cells.
        key = (id(place), tuple(n if n == 1 or place.shape[a + 1] > 1 else -1 for a, n in enumerate(shape)))
        if key not in self._read:
            self._read[key] = read_cells(place, shape, self._batch)
        cells = self._read[key]
        if cells is None:
            return None
        node = value.producer()
        return Layer(
            name=str(value.name),
            node=(node.name or "") if node else "",
            op_type=node.op_type if node else "",
            shape=self._symbolic(value, shape, cells.batch_axis),
            kind=cells.kind,
            grid=cells.grid,
            channels=shape[cells.channel_axis],
            channel_axis=cells.channel_axis,
            batch_axis=cells.batch_axis,
            extra=cells.extra,
            order=cells.order,
        )

    def _symbolic(self, value: ir.Value, shape: Shape, batch_axis: int | None) -> tuple[Dim, ...]:
        """Return the shape, with what depends on the number of samples, or on an open image size, not as a number.

        Inference gives up on many a shape that is computed in the graph; the walk has found them.
        """
        known, image = dims(value) or (), dims(self._image) or ()
        if len(known) != len(shape):  # unknown, or an output about which the file is wrong
            known = (None,) * len(shape)
        fixed = all(isinstance(d, int) for d in image[1:])
        result = [n if fixed or isinstance(d, int) else d for d, n in zip(known, shape, strict=True)]
        if self._batch > 1:
            result[batch_axis or 0] = image[0] if batch_axis is not None else known[0]
        return tuple(result)


def fold(op: Op, value: ir.Value, layer: Layer) -> ir.Value:
    """Return `value`, laid out as `layer`, as a map (N, C, h, w).

    Nothing is emitted for a map; a Transpose for one in NHWC; for tokens and windows the cells are put
    in order, and those that lie nowhere left out. The batch stays dynamic.
    """
    if layer.kind == "map":
        return value
    rest = [axis for axis in range(len(layer.shape)) if axis not in (layer.channel_axis, layer.batch_axis)]
    if layer.kind == "map-nhwc":
        return op.Transpose(value, perm=[layer.batch_axis, layer.channel_axis, *rest])
    if layer.batch_axis is None:
        value = _transposed(op, value, [*rest, layer.channel_axis])
        value = op.Reshape(value, op.const([-1, layer.positions, layer.channels]))
        value = op.Transpose(value, perm=[0, 2, 1])
    else:
        value = _transposed(op, value, [layer.batch_axis, layer.channel_axis, *rest])
        if len(rest) > 1:
            value = op.Reshape(value, op.const([0, layer.channels, layer.positions]))
    value = _pick(op, value, layer)
    return op.Reshape(value, op.const([0, layer.channels, *layer.grid]))


def _transposed(op: Op, value: ir.Value, perm: Sequence[int]) -> ir.Value:
    return value if list(perm) == sorted(perm) else op.Transpose(value, perm=list(perm))


def _pick(op: Op, value: ir.Value, layer: Layer) -> ir.Value:
    """Take the cells from the last axis, in the order of the grid."""
    if not isinstance(layer.order, range):
        return op.Gather(value, op.const(list(layer.order)), axis=2)
    if layer.extra == 0:
        return value
    return op.Slice(value, [layer.order.start], [layer.order.stop], [2])


# ----- Sizes -----


def _image_shape(known: Sequence[Dim], last: bool, size: tuple[int, int] | None, batch: int) -> Shape:
    channel = 3 if last else 1
    spatial = iter(size or (None, None))
    shape = [batch]
    for axis, dim in list(enumerate(known))[1:]:
        default = CHANNELS if axis == channel else (next(spatial, None) or SIDE)
        shape.append(dim if isinstance(dim, int) else default)
    return tuple(shape)


def _sizes_of(value: ir.Value, batch: int) -> Shape:
    """Return a shape for an input other than the image: dynamic sizes are one, and the batch's in front."""
    known = dims(value) or ()
    return tuple(d if isinstance(d, int) else (batch if axis == 0 else 1) for axis, d in enumerate(known))
