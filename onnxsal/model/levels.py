"""The layer behind each level of a detector: the last map of a level's grid that all of its head is computed from.

A feature pyramid has a grid per level, and a detection comes from one of them. What its class, its box and its
objectness are read from together is where a map of the whole detection belongs (ODAM, Zhao and Chan 2023, looks there
too); behind it the head parts.
"""

from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.model.grid import Grid, Layer

SCALING = frozenset({"Cast", "DequantizeLinear", "Mul", "Add"})
"""What makes real numbers of an integer convolution's."""
CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv", "FusedConv"})


def level_layers(grid: Grid, graph: ir.Graph, layers: Sequence[Layer]) -> dict[tuple[int, int], str]:
    """Return for each grid, rows and columns, the layer that the last convolutions over it all depend on.

    Args:
        grid: Where each value's elements lie on the image.
        graph: The graph it was made of.
        layers: The layers in topological order.
    """
    sources = _sources(graph)
    made = {layer.name: grid.value(layer.name) for layer in layers}
    found = {}
    for size in {layer.grid for layer in layers}:
        own = [layer for layer in layers if layer.grid == size]
        # A QLinearConv's or ConvInteger's output is no float layer; what follows it is.
        tips = _tips([made[layer.name] for layer in own if _is_convolved(made[layer.name])], sources)
        common = [layer.name for layer in own if all(made[layer.name] in sources[tip] for tip in tips)]
        if tips and common:
            found[size] = common[-1]
    return found


def _is_convolved(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in SCALING and node.inputs[0] is not None:
        value, node = node.inputs[0], node.inputs[0].producer()
    return node is not None and node.op_type in CONVOLUTIONS


def _sources(graph: ir.Graph) -> dict[ir.Value, set[ir.Value]]:
    """Return for each value of the graph those it is computed from."""
    sources: dict[ir.Value, set[ir.Value]] = {}
    for node in graph:
        behind: set[ir.Value] = set()
        for value in node.inputs:
            if value is not None:
                behind |= sources.get(value, set()) | {value}
        for value in node.outputs:
            sources[value] = behind
    return sources


def _tips(values: Sequence[ir.Value], sources: dict[ir.Value, set[ir.Value]]) -> list[ir.Value]:
    """Return those that none of the others is computed from."""
    return [v for v in values if not any(v in sources[other] for other in values)]
