"""Exporters write GELU out, x * (1 + erf(x / sqrt(2))) / 2: say what it is.

So it is one kernel instead of five passes over memory, and has one rule for its derivative instead of five
(ViT-B/16: a gradient 0.96 as long).
"""

import math
from collections.abc import Sequence

import onnx_ir as ir

from onnxsal.graph.respelling import nodes_of
from onnxsal.graph.types import constant, dims

TOLERANCE = 1e-6
"""Relative, of the two constants: exporters round them to float32."""


def spell_gelu(graph: ir.Graph) -> None:
    """Turn the last multiplication of each written-out GELU in float32 into Gelu; leave the others to be pruned."""
    for node in nodes_of(graph, "Mul"):
        x = _argument(node)
        if x is not None:
            node.op_type = "Gelu"
            node.resize_inputs(1)
            node.replace_input_with(0, x)


def _argument(node: ir.Node) -> ir.Value | None:
    """Return x if the node makes GELU of x."""
    scale, values = _factors(node.inputs)
    if len(values) != 2 or not math.isclose(scale, 0.5, rel_tol=TOLERANCE):
        return None
    for x, other in (values, values[::-1]):
        if _is_one_plus_erf(other, x) and x.dtype == ir.DataType.FLOAT and dims(x) == dims(node.outputs[0]) is not None:
            return x
    return None


def _is_one_plus_erf(value: ir.Value, x: ir.Value) -> bool:
    """Tell whether the value is 1 + erf(x / sqrt(2))."""
    add = _only_use(value, "Add")
    if add is None:
        return False
    ones = [v for v in add.inputs if _scalar(v) == 1]
    erf = [found for v in add.inputs if (found := _only_use(v, "Erf")) is not None]
    if not ones or not erf:
        return False
    scale, values = _factors(erf[0].inputs)
    return len(values) == 1 and values[0] is x and math.isclose(scale, math.sqrt(0.5), rel_tol=TOLERANCE)


def _factors(inputs: Sequence[ir.Value | None]) -> tuple[float, list[ir.Value]]:
    """Return what a product is made of: its scalar, and its other factors."""
    scale, values = 1.0, list[ir.Value]()
    for value in inputs:
        number = _scalar(value)
        product, ratio = _only_use(value, "Mul"), _only_use(value, "Div")
        divisor = _scalar(ratio.inputs[1]) if ratio is not None else None
        if number is not None:
            scale *= number
        elif product is not None:
            inner, found = _factors(product.inputs)
            scale, values = scale * inner, values + found
        elif ratio is not None and divisor:
            inner, found = _factors(ratio.inputs[:1])
            scale, values = scale * inner / divisor, values + found
        elif value is not None:
            values.append(value)
    return scale, values


def _only_use(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes a value, if it is of this operator and the value is read once and is no output."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != op_type or node.domain not in ("", "ai.onnx"):
        return None
    return node if len(value.uses()) == 1 and not value.is_graph_output() else None


def _scalar(value: ir.Value | None) -> float | None:
    """Return a constant of one element; larger ones are not read."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    array = constant(value)
    return None if array is None else float(array.reshape(()))
