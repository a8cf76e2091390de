"""Along which axis of a time series (N, a, b) its steps lie."""

from typing import TYPE_CHECKING

from onnxsal.model.source import Source

if TYPE_CHECKING:
    import onnx_ir as ir

PASSED = ("Identity", "Cast", "Pad", "QuantizeLinear", "DequantizeLinear", "Add", "Sub", "Mul", "Div")
"""Operators that leave axes where they are."""
CHANNELS_FIRST = ("Conv", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool", "AveragePool")
"""Operators that slide, or average, along the last axis."""


def has_time_last(source: Source, name: str) -> bool:
    """Tell whether a model reads its input `name` by a convolution, or the like, along the last axis.

    Steps come first in what recurrent and attention layers read, and in Keras, which transposes before it convolves.
    """
    graph = source.load_ir().graph
    values: list[ir.Value] = [value for value in graph.inputs if value.name == name]
    seen: set[ir.Node] = set()
    while values:
        value = values.pop()
        for node in {use.node for use in value.uses()} - seen:
            seen.add(node)
            if node.op_type in CHANNELS_FIRST and node.inputs[0] is value:
                return True
            values += node.outputs if node.op_type in PASSED else ()
    return False
