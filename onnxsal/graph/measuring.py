"""How much memory one sample takes in a run of a graph, from the sizes of its values."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import onnx_ir as ir

from onnxsal.graph.footprint import Footprint
from onnxsal.graph.shapes import Shapes
from onnxsal.graph.types import dims

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators that ONNX Runtime gives their input's memory as output."""
SIDE = 16
"""Stands for sizes that are not known: of a grid of cells, of a question beside the image."""


def measure(model: ir.Model, sizes: Mapping[str, Sequence[int]]) -> Footprint:
    """Return how much memory a run takes, as far as the sizes of its values can be told.

    What ONNX Runtime takes beside, for a convolution's scratch or because a layer's values are padded to blocks of
    eight or sixteen channels, is not in it.

    Args:
        model: In canonical form.
        sizes: Shapes of inputs, for one sample; of others, the first dimension is 1 and sizes unknown are small.
    """
    graph = model.graph
    inputs = [v for v in graph.inputs if v.const_value is None and dims(v) is not None]
    shapes = Shapes(model, {str(v.name): sizes.get(str(v.name), _likely(v)) for v in inputs}).walk()
    weights = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
    nodes = list(graph)
    last = {value: i for i, node in enumerate(nodes) for value in node.inputs if value is not None}
    last |= dict.fromkeys(graph.outputs, len(nodes))
    held = made = peak = 0
    for i, node in enumerate(nodes):
        sizes_made = [_bytes(v, shapes) for v in node.outputs]
        made, held = made + sum(sizes_made), held + sum(sizes_made)
        peak = max(peak, held)
        held -= sum(_bytes(v, shapes) for v in _done(node, last, i))
    return Footprint(peak, made, weights)


def _likely(value: ir.Value) -> tuple[int, ...]:
    first, *rest = dims(value) or (1,)
    return (first if isinstance(first, int) else 1, *(d if isinstance(d, int) else SIDE for d in rest))


def _done(node: ir.Node, last: Mapping[ir.Value, int], now: int) -> Iterator[ir.Value]:
    """Yield what nothing reads behind this node: inputs read for the last time, outputs that are never read."""
    for value in {v for v in node.inputs if v is not None and v.producer() is not None}:
        if last[value] == now:
            yield value
    yield from (v for v in node.outputs if v not in last)


def _bytes(value: ir.Value, shapes: Shapes) -> int:
    """Return how much memory a value takes; none if it is its input's, or small, or of unknown size."""
    node, shape, dtype = value.producer(), shapes.shape(value), shapes.dtype(value)
    if shape is None or dtype is None or (node is not None and node.op_type in VIEWS):
        return 0
    return prod(shape) * dtype.bitwidth // 8
