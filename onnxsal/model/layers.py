"""Which layers lie between image and classes, and which one a method takes unless told otherwise."""

from collections.abc import Iterator

import onnx_ir as ir

from onnxsal.graph.flow import computed, read_values
from onnxsal.graph.types import FLOATS
from onnxsal.model.grid import Grid, Layer
from onnxsal.model.transfer import MOVES

# What is computed in these types are shapes, indices and conditions; quantised numbers have narrower ones.
POSITIONS = frozenset({ir.DataType.INT64, ir.DataType.BOOL})
PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "MatMulInteger", "QLinearMatMul", "FusedMatMul"})
ATTENTION = frozenset({"Attention", "MultiHeadAttention"})
SAME_DATA = MOVES | {"Identity", "Cast", "Dropout"}
WITHIN_ATTENTION = SAME_DATA | {"Add", "Sub", "Mul", "Div", "Softmax", "BatchNormalization"}


def candidate_layers(grid: Grid, graph: ir.Graph, image: str, logits: str | None) -> list[Layer]:
    """Return the layers whose cells count for the logits, in topological order: floats, and quantised ones.

    Of numbers that stand in the graph both quantised and not, the floats are offered.

    In a transformer whose class token alone is classified, cells stop to count where the last attention
    has read them: what comes behind has no gradient but at the class token, and is not offered.

    Args:
        grid: Where each value's elements lie.
        graph: The graph it was made of.
        image: Name of the value where the image enters.
        logits: Name of the logits; None takes every output of the graph for an end.
    """
    path, use = _path(grid, graph, image, logits), _Use(grid, graph, logits)
    counting = {v for v in path & use.counting if grid.has_gradient(v)}
    values = [v for node in graph for v in node.outputs if v in counting and not _is_also_float(v, counting)]
    layers = [grid.layer(str(v.name)) for v in values if v.name not in (image, logits)]
    return [layer for layer in layers if layer is not None]


def _is_also_float(value: ir.Value, others: set[ir.Value]) -> bool:
    """Tell whether the integers of a value are floats elsewhere: behind it, before it, or as sums to be scaled."""
    node = value.producer()
    twins = [reader.outputs[0] for reader, _ in value.uses() if reader.op_type in ("DequantizeLinear", "Cast")]
    if node is not None and node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
        twins += [v for v in node.inputs[:1] if v is not None]
    return value.dtype not in FLOATS and any(v in others for v in twins)


def last_spatial(grid: Grid, graph: ir.Graph, layers: list[Layer], logits: str | None) -> Layer | None:
    """Return the layer to look at unless told otherwise: of the candidates the last; None if there is none.

    In a convolutional network that is what its pooling or its first fully connected layer reads. In a
    transformer with a class token it is what the last attention reads: its block's first normalisation,
    which pytorch-grad-cam's documentation advises too (`blocks[-1].norm1`). Queries, keys and values,
    which are linear maps of it, are passed over.

    Of values that hold the same data (a Transpose, a Slice without the class token) the first is taken.
    """
    if not layers:
        return None
    chosen = layers[-1]
    if grid.value(chosen.name) not in _Use(grid, graph, logits).pooled:
        outside = (x for x in reversed(layers) if not _is_inside_attention(grid, grid.value(x.name)))
        chosen = next(outside, chosen)
    return _before_movement(grid, chosen, {layer.name: layer for layer in layers})


def _before_movement(grid: Grid, layer: Layer, layers: dict[str, Layer]) -> Layer:
    """Return the first layer that holds the same cells as `layer`, in another order or shape.

    A map stays the map it is, rather than become the windows that it was put together from.
    """
    node = grid.value(layer.name).producer()
    source = node.inputs[0] if node is not None and node.op_type in SAME_DATA and node.inputs else None
    before = layers.get(str(source.name)) if source is not None else None
    if before is None or (before.grid, before.channels) != (layer.grid, layer.channels):
        return layer
    if before.kind == "windows" and layer.kind != "windows":
        return layer
    return _before_movement(grid, before, layers)


def _is_inside_attention(grid: Grid, value: ir.Value) -> bool:
    """Tell whether what attention reads is a query, key, value or score: a product, its bias, scale, softmax."""
    node = value.producer()
    if node is None:
        return False
    if node.op_type in PRODUCTS or node.op_type == "Conv":
        return True
    placed = [v for v in node.inputs if v is not None and grid.has_place(v)]
    return node.op_type in WITHIN_ATTENTION and len(placed) == 1 and _is_inside_attention(grid, placed[0])


# ----- What reaches what -----


def _path(grid: Grid, graph: ir.Graph, image: str, logits: str | None) -> set[ir.Value]:
    """Return the values between image and logits through which numbers flow."""
    reached = {grid.value(image)}
    for node in graph:
        if any(v in reached for v in read_values(node)):
            reached.update(v for v in node.outputs if _holds_numbers(grid, v))
    return reached & _alive(grid, graph, logits)


def _alive(grid: Grid, graph: ir.Graph, logits: str | None) -> set[ir.Value]:
    """Return the values that the logits are computed from, themselves among them."""
    alive = set(graph.outputs) if logits is None else {grid.value(logits)}
    for node in reversed(graph):
        if any(v in alive for v in node.outputs) and any(_holds_numbers(grid, v) for v in node.outputs):
            alive.update(read_values(node))
    return alive


def _holds_numbers(grid: Grid, value: ir.Value) -> bool:
    return grid.dtype(value) not in POSITIONS


class _Use:
    """Whose cells count for the logits.

    Attributes:
        counting: Values whose cells lie on the image and change the logits.
        pooled: Those among them whose cells are read by something else than attention: pooled,
            flattened, or mixed by fixed weights.
    """

    def __init__(self, grid: Grid, graph: ir.Graph, logits: str | None) -> None:
        self._grid = grid
        self._alive = _alive(grid, graph, logits)
        self._computed = computed(graph)
        # Where the end itself is a map (of scores per pixel, of boxes), its cells are what is explained.
        ends = graph.outputs if logits is None else [grid.value(logits)]
        self.counting = {v for v in ends if grid.has_place(v)}
        self.pooled = set(self.counting)
        for node in reversed(graph):
            for value, pooled in self._read_by(node):
                self.counting.add(value)
                if pooled:
                    self.pooled.add(value)

    def _read_by(self, node: ir.Node) -> Iterator[tuple[ir.Value, bool]]:
        """Yield the inputs whose cells count because of this node, and whether as more than attention's."""
        # What asks whether a score is a number reads no cell: exporters guard a masked Softmax so.
        outputs = [v for v in node.outputs if v in self._alive and _holds_numbers(self._grid, v)]
        carriers = self._grid.carriers(node)
        moved = node.op_type in MOVES and not self._grid.takes_one_cell(node)
        kept = moved or any(self._grid.has_place(v) for v in node.outputs)
        for value in read_values(node):
            if not self._grid.has_place(value):
                continue
            if kept and value in carriers:
                # Cell by cell: they count if the output's do. A Gather that takes the class token drops them all.
                if any(v in self.counting for v in outputs):
                    yield value, any(v in self.pooled for v in outputs)
            elif outputs:
                yield value, not self._is_attention(node, value)

    def _is_attention(self, node: ir.Node, value: ir.Value) -> bool:
        """Tell whether the cells of `value` are mixed by weights that depend on the input."""
        if node.op_type in ATTENTION:
            return True
        return node.op_type in PRODUCTS and any(v in self._computed for v in node.inputs if v is not value)
