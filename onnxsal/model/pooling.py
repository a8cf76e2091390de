"""Global average pooling: the mean of a map that the logits are linear in, which is what CAM needs."""

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsal.graph.quantisation import quantisation_of
from onnxsal.graph.ranges import bounds, limits
from onnxsal.graph.types import constant, dims

# Linear in one input, as long as the others are weights.
LINEAR = frozenset({"Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Conv", "BatchNormalization"})
# Operators of ONNX Runtime's own, and on integers, that are one of these on quantised numbers.
FLOAT_FORM = {
    "QLinearConv": "Conv",
    "ConvInteger": "Conv",
    "FusedConv": "Conv",
    "QLinearMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "MatMulIntegerToFloat": "MatMul",
    "DynamicQuantizeMatMul": "MatMul",
    "FusedMatMul": "MatMul",
    "QGemm": "Gemm",
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}
# These move numbers. Quantising is rounding, which gradients pass as if it were not there.
PASSING = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast", "QuantizeLinear"}
    | {"DequantizeLinear", "DynamicQuantizeLinear"}
)


@dataclass(frozen=True)
class Gap:
    """A global average pooling that the logits are linear in.

    Attributes:
        pooled: Name of the value that holds the averages.
        features: Name of the map, or of the tokens, that is averaged.
    """

    pooled: str
    features: str


def find_gap(logits: ir.Value, runtime: Container[ir.Value]) -> Gap | str:
    """Walk back from the logits through what is linear, to the average of a map.

    A map of scores per class that is averaged at once (SqueezeNet) is such a head, too.

    Args:
        logits: Where to begin.
        runtime: The values that depend on what is fed in; the others are weights.

    Returns:
        The pooling, or a clause that says what is in the way.
    """
    value, divided = logits, None
    while (node := value.producer()) is not None:
        source = averaged(node)
        if source is not None:
            # A sum is an average once it is divided by a number.
            pooled = divided if node.op_type == "ReduceSum" and divided is not None else value
            return Gap(str(pooled.name), str(source.name))
        before = _linear_input(node, runtime)
        if before is None:
            return _in_the_way(node, logits, runtime)
        if _cells(before) > max(_cells(value), 1) and form(node) not in ("MatMul", "Gemm"):
            return f"the logits {logits.name!r} read each cell of {before.name!r} by itself, not their average"
        divided = value if node.op_type in ("Div", "Mul") and _by_number(node) else None
        value = before
    return f"no global average pooling stands before the logits {logits.name!r}"


def averaged(node: ir.Node) -> ir.Value | None:
    """Return what `node` averages, or sums, over all of its cells; None if it does anything else."""
    source = node.inputs[0] if node.inputs else None
    kind = form(node)
    if source is None or kind is None:
        return None
    if kind == "GlobalAveragePool" or (kind == "AveragePool" and _covers(node, source)):
        return source
    if node.op_type not in ("ReduceMean", "ReduceSum"):
        return None
    axes, before = _axes(node), source.producer()
    if before is not None and before.op_type == node.op_type and before.inputs[0] is not None:
        # One axis after the other: mean(3).mean(2).
        source, inner = before.inputs[0], _axes(before)
        kept = [a for a in range(_rank(source)) if a not in inner or before.attributes.get_int("keepdims", 1) == 1]
        axes = {*inner, *(kept[a] for a in axes)}
    return source if _rank(source) >= 3 and 0 not in axes and len(axes) == _rank(source) - 2 else None


def form(node: ir.Node) -> str | None:
    """Return the standard float operator that a node is, on whatever numbers; None where it is another's."""
    if node.op_type in FLOAT_FORM and node.domain in ("", "ai.onnx", "com.microsoft"):
        # A fused activation is not linear, and channels that come last lie elsewhere.
        plain = not node.attributes.get_string("activation") and not node.attributes.get_int("channels_last", 0)
        return FLOAT_FORM[node.op_type] if plain else None
    return node.op_type if node.domain in ("", "ai.onnx") else None


def _covers(node: ir.Node, source: ir.Value) -> bool:
    """Tell whether an AveragePool has one window that holds all of its input, and averages over that alone."""
    size, pooled = (dims(source) or ())[2:], (dims(node.outputs[0]) or (0,))[2:]
    kernel, pads = node.attributes.get_ints("kernel_shape") or [], node.attributes.get_ints("pads")
    if pads is None or not all(d == 1 for d in pooled) or len(size) != len(kernel):
        return False
    if any(pads) and node.attributes.get_int("count_include_pad", 0) == 1:
        return False
    return all(isinstance(n, int) and k - p >= n for n, k, p in zip(size, kernel, pads, strict=False))


def _axes(node: ir.Node) -> set[int]:
    """Return the axes that a reduction is over, counted from the front; none if it is not known."""
    axes = node.attributes.get_ints("axes") or ()
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None and given.const_value is not None:
        axes = [int(a) for a in given.const_value.numpy().reshape(-1)]
    rank = _rank(node.inputs[0])
    return {a % rank for a in axes} if rank else set()


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None or value.shape is None else len(value.shape)


def _cells(value: ir.Value) -> int:
    """Return how many axes beside the samples are longer than 1."""
    return sum(d != 1 for d in (dims(value) or ())[1:])


def _by_number(node: ir.Node) -> bool:
    return any(v is not None and v.const_value is not None and v.const_value.size == 1 for v in node.inputs)


# ----- What is linear -----


def _linear_input(node: ir.Node, runtime: Container[ir.Value]) -> ir.Value | None:
    """Return the one input that `node` is linear in, or None."""
    moving = [v for v in node.inputs if v is not None and v in runtime]
    kind = form(node)
    if kind is None or not moving:
        return None
    if _rectifies(node):
        return None
    if kind in PASSING or _is_idle(node):
        return node.inputs[0]
    if kind not in LINEAR or len(moving) != 1:
        return None
    return None if kind == "Div" and moving[0] is not node.inputs[0] else moving[0]


def _rectifies(node: ir.Node) -> bool:
    """Tell whether the range that a node quantises to begins at 0, and cuts off what lies below."""
    q = quantisation_of(node.outputs[0])
    makes = node.op_type == "QuantizeLinear" or form(node) in LINEAR
    if q is None or not makes or node.outputs[0].dtype == ir.DataType.INT32:
        return False
    smallest, _ = limits(node.outputs[0].dtype)  # type: ignore[arg-type]  # quantised values have a type
    zero = 0.0 if q.zero_point is None else constant(q.zero_point)
    below = node.op_type != "QuantizeLinear" or bounds(node.inputs[0])[0] < 0
    return zero is not None and bool(np.all(np.asarray(zero, np.float32) == smallest)) and below


def _is_idle(node: ir.Node) -> bool:
    """Tell whether a Clip or Relu changes nothing: it follows the average of a map that the same one has bounded.

    tf2onnx writes one behind the pooling of a network that was quantised.
    """
    pool = node.inputs[0].producer() if node.op_type in ("Clip", "Relu") and node.inputs[0] is not None else None
    source = averaged(pool) if pool is not None and pool.op_type != "ReduceSum" else None
    bounding = source.producer() if source is not None else None
    if bounding is None or bounding.op_type != node.op_type or len(bounding.inputs) != len(node.inputs):
        return False
    return all(_same_constant(a, b) for a, b in zip(node.inputs[1:], bounding.inputs[1:], strict=True))


def _same_constant(a: ir.Value | None, b: ir.Value | None) -> bool:
    if a is b:
        return True
    if a is None or b is None or a.const_value is None or b.const_value is None:
        return False
    return np.array_equal(a.const_value.numpy(), b.const_value.numpy())


def _in_the_way(node: ir.Node, logits: ir.Value, runtime: Container[ir.Value]) -> str:
    """Say what stands between a pooling and the logits, or that there is no pooling."""
    what = f"{node.op_type} {node.name or node.outputs[0].name!r}"
    step: ir.Node | None = node
    while step is not None:
        value = next((v for v in step.inputs if v is not None and v in runtime), None)
        step = value.producer() if value is not None and _cells(value) <= 1 else None
        if step is not None and averaged(step) is not None:
            return f"{what} lies between the pooling {step.outputs[0].name!r} and the logits {logits.name!r}"
    return f"no global average pooling stands before the logits {logits.name!r}, but {what}"
