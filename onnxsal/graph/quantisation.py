"""Integers that stand for real numbers: by which scale and zero point, and how to read them.

A quantised value q stands for (q - zero_point) * scale. Which values are quantised is not a matter of
their type but of what makes them: QuantizeLinear and the QLinear operators say scale and zero point
beside each, and what only moves numbers passes both on. The sums that ConvInteger and MatMulInteger make
stand for themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.types import FLOATS, constant

# Where scale and zero point of the output stand among the inputs.
_OUTPUT_AT = {
    "QuantizeLinear": (1, 2),
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearAveragePool": (3, 4),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSigmoid": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearConcat": (0, 1),
    "QLinearWhere": (7, 8),
    "QGemm": (7, 8),
}
_SUMS = frozenset({"ConvInteger", "MatMulInteger", "MatMulInteger16"})
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})

PASSING = frozenset(
    {
        "Identity",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Expand",
        "Tile",
        "Slice",
        "Split",
        "Concat",
    }
    | {"Gather", "GatherND", "GatherElements", "DepthToSpace", "SpaceToDepth", "MaxPool", "NhwcMaxPool", "ReduceMax"}
    | {"ReduceMin", "Max", "Min", "Pad", "Resize", "Where", "Cast"}
)
"""Operators that make of quantised numbers others of the same scale and zero point."""

REAL = ir.DataType.FLOAT
"""The type in which real numbers are read, and have gradients."""

_EXACT = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})


@dataclass(frozen=True)
class Quantisation:
    """How integers stand for real numbers.

    Attributes:
        scale: What a step is worth: one number, or one per entry of `axis`; None is 1.
        zero_point: What stands for 0; None is 0.
        axis: The axis along which scales change, if they do.
        block_size: How many entries along it share one; 0 for one each.
    """

    scale: ir.Value | None
    zero_point: ir.Value | None
    axis: int = 1
    block_size: int = 0

    @property
    def is_uniform(self) -> bool:
        """Whether all of a value has one scale."""
        shape = None if self.scale is None else self.scale.shape
        return self.scale is None or (shape is not None and all(d == 1 for d in shape))

    def same(self, other: "Quantisation") -> bool:
        """Tell whether equal integers surely stand for equal numbers."""
        alike = same_numbers(self.scale, other.scale) and same_numbers(self.zero_point, other.zero_point)
        return alike and (self.is_uniform or (self.axis, self.block_size) == (other.axis, other.block_size))


def quantisation_of(value: ir.Value) -> Quantisation | None:
    """Return how `value` stands for real numbers; None for floats, indices, and whatever else does not."""
    if value.dtype is None or value.dtype in FLOATS or value.dtype in _EXACT:
        return None
    node = value.producer()
    if node is None:
        return next(_as_read(value), None)
    if node.domain not in _DOMAINS:
        return None
    if node.op_type in _OUTPUT_AT:
        return _beside(node, *_OUTPUT_AT[node.op_type])
    if node.op_type == "DynamicQuantizeLinear" and value is node.outputs[0]:
        return Quantisation(node.outputs[1], node.outputs[2])
    if node.op_type in _SUMS:
        return Quantisation(None, None)
    return _passed_on(node) if node.op_type in PASSING else None


def _beside(node: ir.Node, scale: int, zero_point: int) -> Quantisation | None:
    given = _input(node, scale)
    if given is None or given.dtype not in FLOATS:
        return None
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    return Quantisation(given, _input(node, zero_point), axis, block)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _passed_on(node: ir.Node) -> Quantisation | None:
    """Return what all quantised inputs have in common."""
    values = {"Concat": node.inputs, "Max": node.inputs, "Min": node.inputs, "Where": node.inputs[1:]}.get(
        node.op_type, node.inputs[:1]
    )
    found = [None if v is None else quantisation_of(v) for v in values]
    first = found[0]
    # Axes move, and blocks come apart.
    if first is None or not first.is_uniform or not all(q is not None and q.same(first) for q in found):
        return None
    return first


def _as_read(value: ir.Value) -> Iterator[Quantisation]:
    """Yield how the readers of an input understand it: its scale stands behind it."""
    for node, index in value.uses():
        if node.domain not in _DOMAINS:
            continue
        if node.op_type == "DequantizeLinear" or node.op_type.startswith("QLinear") or node.op_type == "QGemm":
            found = _beside(node, index + 1, index + 2)
            if found is not None and index + 2 < len(node.inputs):
                yield found
        elif node.op_type in PASSING - {"Cast"} and index == 0:
            yield from (q for q in _as_read(node.outputs[0]) if q.is_uniform)


def same_numbers(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Tell whether two scales, or two zero points, are surely equal; None is no such input."""
    if a is b:
        return True
    left, right = constant(a), constant(b)
    return left is not None and right is not None and bool(np.array_equal(left.reshape(-1), right.reshape(-1)))


# ----- Reading -----

# Functions whose rules look at their own result, and that cost little to compute again.
_CHEAP = frozenset(
    {"Sigmoid", "Tanh", "Softmax", "LogSoftmax", "HardSigmoid", "Softplus", "Exp", "Sqrt", "Reciprocal", "Elu", "Selu"}
    | {"Celu", "Div", "Pow", "HardSwish", "Swish", "Mish", "ReduceL2", "LpNormalization", "Relu", "LeakyRelu", "PRelu"}
    | {"ThresholdedRelu", "Clip"}
)
# Functions whose rules ask which of their inputs they chose, so that not a bit may be rounded off.
_CHOOSING = frozenset({"MaxPool", "ReduceMax", "ReduceMin", "Max", "Min"})


def real(op: Op, value: ir.Value, original: Callable[[ir.Value], ir.Value] = lambda value: value) -> ir.Value:
    """Return the real numbers that a value stands for, without disturbing what ONNX Runtime fuses.

    It fuses a float operator with the quantisations around it, as long as nobody else reads what lies
    between, and moves a DequantizeLinear to behind what reads it. So what lies before a QuantizeLinear is
    read as it comes out of that, or computed again where that is cheap, or where rounding would hide
    what was chosen; and integers are decoded by arithmetic, bit by bit what DequantizeLinear gives. Of
    weights ONNX Runtime does it once, on loading.

    Args:
        op: Writes what is needed.
        value: A float value, or a quantised one.
        original: Returns the value to be read in the place of another.
    """
    value = original(value)
    node = value.producer()
    quantised = fused_into(value)
    if quantised is not None and node is not None and _is_computed_again(node, quantised):
        inputs = [None if v is None else real(op, v, original) for v in node.inputs]
        again: ir.Value = op.emit(node.op_type, *inputs, **{k: a.value for k, a in node.attributes.items()})
        return again
    if quantised is not None:
        return real(op, quantised, original)
    if node is not None and node.op_type == "DequantizeLinear" and node.domain in _DOMAINS:
        q = _beside(node, 1, 2)
        source = node.inputs[0]
        return value if q is None or source is None else _decode(op, original(source), q, otherwise=value)
    q = quantisation_of(value)
    return value if q is None else _decode(op, value, q)


def fused_into(value: ir.Value) -> ir.Value | None:
    """Return the quantised form of a float value that is quantised and not read otherwise; None for any other."""
    readers = [(node, index) for node, index in value.uses()]
    if not readers or value.is_graph_output() or value.producer() is None:
        return None
    quantised = all(n.op_type == "QuantizeLinear" and n.domain in _DOMAINS and i == 0 for n, i in readers)
    return readers[0][0].outputs[0] if quantised else None


def _is_computed_again(node: ir.Node, quantised: ir.Value) -> bool:
    """Tell whether what a node makes is computed anew, and not read as it comes out of its quantisation."""
    if node.op_type in _CHOOSING:
        return not _keeps_steps(node, quantised)
    return node.op_type in _CHEAP and _reads_quantised(node)


def _reads_quantised(node: ir.Node) -> bool:
    """Tell whether all that a node reads is constant, or comes out of quantised numbers."""
    producers = [v.producer() for v in node.inputs if v is not None and v.const_value is None]
    return all(p is not None and p.op_type == "DequantizeLinear" for p in producers)


def _keeps_steps(node: ir.Node, quantised: ir.Value) -> bool:
    """Tell whether a node's inputs and its output are quantised alike, so that what it chooses is not rounded."""
    output, numbers = quantisation_of(quantised), [v for v in node.inputs if v is not None and v.dtype in FLOATS]
    made = [v.producer() for v in numbers]
    read = [_beside(n, 1, 2) for n in made if n is not None and n.op_type == "DequantizeLinear"]
    alike = output is not None and all(q is not None and q.same(output) for q in read)
    return alike and len(read) == len(numbers)


def _decode(op: Op, value: ir.Value, q: Quantisation, *, otherwise: ir.Value | None = None) -> ir.Value:
    """Return (value - zero point) * scale; `otherwise`, or a DequantizeLinear, where it is not as simple as that."""
    if q.scale is None:
        return op.cast(value, REAL)
    if not q.is_uniform and (q.block_size or value.shape is None):
        geometry = {"axis": q.axis, "block_size": q.block_size or None}
        return otherwise or op.DequantizeLinear(value, q.scale, q.zero_point, **geometry)
    shape = [1] * len(value.shape or ())
    if not q.is_uniform:
        shape[q.axis] = -1
    numbers = op.cast(value, REAL)
    known = constant(q.zero_point)
    if q.zero_point is not None and (known is None or np.any(known != 0)):
        numbers = op.Sub(numbers, _aligned(op, q.zero_point, shape))
    return op.cast(op.Mul(numbers, _aligned(op, q.scale, shape)), q.scale.dtype)


def _aligned(op: Op, parameter: ir.Value, shape: list[int]) -> ir.Value:
    """Return a scale or zero point as float32, in a shape that broadcasts over what it belongs to."""
    known = constant(parameter)
    if known is not None:
        return op.const(np.asarray(known, np.float32).reshape(shape if known.size > 1 else ()), REAL)
    parameter = op.cast(parameter, REAL)
    return op.Reshape(parameter, op.const(shape)) if -1 in shape else parameter
