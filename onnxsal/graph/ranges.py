"""Between which numbers a value surely lies, as far as operators say: interval arithmetic."""

from collections.abc import Callable
from math import inf, isnan

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import constant

Interval = tuple[float, float]

Look = Callable[[ir.Value | None], Interval]

ANYWHERE: Interval = (-inf, inf)
DEEPEST = 8  # operators; between two quantisations there are fewer

_LIMITS: dict[ir.DataType, Interval] = {
    ir.DataType.UINT8: (0, 2**8 - 1),
    ir.DataType.INT8: (-(2**7), 2**7 - 1),
    ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.FLOAT8E4M3FN: (-448, 448),
    ir.DataType.FLOAT8E4M3FNUZ: (-240, 240),
    ir.DataType.FLOAT8E5M2: (-57344, 57344),
    ir.DataType.FLOAT8E5M2FNUZ: (-57344, 57344),
}
# A value within bounds stays within them; averages of it do, too.
_KEEPING = frozenset(
    {"MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceMin", "Identity", "Reshape"}
    | {"Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand", "Tile", "DepthToSpace"}
    | {"SpaceToDepth"}
)
_UNIT = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})


def limits(dtype: ir.DataType) -> Interval:
    """Return the smallest and largest number of a type that real numbers are quantised to."""
    return _LIMITS[dtype]


def bounds(value: ir.Value | None, depth: int = DEEPEST) -> Interval:
    """Return an interval that holds every entry of a value, looking back over at most `depth` operators."""
    node = None if value is None else value.producer()
    if node is None:
        array = constant(value)
        return ANYWHERE if array is None or array.size == 0 else (float(array.min()), float(array.max()))
    if node.domain not in ("", "ai.onnx") or depth == 0:
        return ANYWHERE
    if node.op_type in _UNIT:
        return 0.0, 1.0
    if node.op_type == "DequantizeLinear":
        return _dequantised(node)
    found = _keep if node.op_type in _KEEPING else _RULES.get(node.op_type)
    return ANYWHERE if found is None else found(node, lambda v: bounds(v, depth - 1))


def _keep(node: ir.Node, look: Look) -> Interval:
    return look(node.inputs[0])


def _dequantised(node: ir.Node) -> Interval:
    x, scale = node.inputs[0], constant(node.inputs[1])
    zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if x is None or x.dtype not in _LIMITS or scale is None or zero_point is None or scale.size != 1:
        return ANYWHERE
    low, high = _LIMITS[x.dtype]
    at, step = float(np.asarray(zero_point, np.float32).item()), float(scale.item())
    return (low - at) * step, (high - at) * step


def _average_pool(node: ir.Node, look: Look) -> Interval:
    """Padding, where it counts, is zeros."""
    low, high = look(node.inputs[0])
    return (min(low, 0.0), max(high, 0.0)) if node.attributes.get_int("count_include_pad", 0) else (low, high)


def _relu(node: ir.Node, look: Look) -> Interval:
    low, high = look(node.inputs[0])
    return max(low, 0.0), max(high, 0.0)


def _clip(node: ir.Node, look: Look) -> Interval:
    low, high = look(node.inputs[0])
    least, most = (constant(v) for v in [*node.inputs[1:], None, None][:2])
    if least is not None:
        low, high = max(low, float(least)), max(high, float(least))
    if most is not None:
        low, high = min(low, float(most)), min(high, float(most))
    return low, high


def _resize(node: ir.Node, look: Look) -> Interval:
    """A cubic overshoots."""
    return ANYWHERE if node.attributes.get_string("mode", "nearest") == "cubic" else look(node.inputs[0])


def _concat(node: ir.Node, look: Look) -> Interval:
    lows, highs = zip(*(look(v) for v in node.inputs), strict=True)
    return min(lows), max(highs)


def _add(node: ir.Node, look: Look) -> Interval:
    (a, b), (c, d) = (look(v) for v in node.inputs)
    return a + c, b + d


def _mul(node: ir.Node, look: Look) -> Interval:
    left, right = (look(v) for v in node.inputs)
    corners = [a * b for a in left for b in right]
    return ANYWHERE if any(isnan(c) for c in corners) else (min(corners), max(corners))


_RULES: dict[str, Callable[[ir.Node, Look], Interval]] = {
    "AveragePool": _average_pool,
    "Relu": _relu,
    "Clip": _clip,
    "Resize": _resize,
    "Concat": _concat,
    "Add": _add,
    "Mul": _mul,
}
