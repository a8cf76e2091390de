"""The head: which output has the classes, the logits behind it, and the average that CAM needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.errors import CardError
from onnxsal.graph.flow import computed, values_behind
from onnxsal.graph.quantisation import quantisation_of
from onnxsal.graph.types import FLOATS, Dim, dims
from onnxsal.model.pooling import Gap, find_gap

__all__ = ["Gap", "Head", "find_head"]

# A class output may be wrapped in these; they move the same numbers.
WRAPPERS = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose", "Dropout", "QuantizeLinear"}
    | {"DequantizeLinear"}
)
ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
ACTIVATIONS |= {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}
QUANTISED = frozenset({ir.DataType.UINT8, ir.DataType.INT8})


@dataclass(frozen=True)
class Head:
    """The classes of a model.

    Attributes:
        output: Name of the output that has them; None if there is none.
        output_class_axis: Its axis of classes.
        output_scale: What a step of that output is worth, where it is quantised; 1 otherwise.
        output_zero_point: What stands for 0 there.
        classes: How many there are; None if only the run knows.
        logits: Name of the value before the activation, a float or a quantised one; the output itself without one.
        class_axis: The axis of classes of `logits` and `probabilities`.
        activation: `softmax`, `log-softmax`, `sigmoid`, or None if the output is the logits.
        probabilities: Name of the float value right behind the activation, if it gives probabilities.
        gap: The average of a map that the logits are linear in, if they are.
        gap_reason: Why there is none: a clause that names what is in the way.
        reason: Why no output has the classes; empty where one has.
    """

    output: str | None = None
    output_class_axis: int = 1
    output_scale: float = 1.0
    output_zero_point: int = 0
    classes: int | None = None
    logits: str | None = None
    class_axis: int = 1
    activation: str | None = None
    probabilities: str | None = None
    gap: Gap | None = None
    gap_reason: str = ""
    reason: str = ""


def find_head(model: ir.Model, output: str | None = None) -> Head:
    """Find the classes of a model in canonical form.

    An output has classes if beside the samples it has one axis longer than 1, unless a TopK has sorted
    it. Floats come before quantised numbers, several classes before one (a lone score), what no other
    such output is computed from before features, then the first. If there is none, a float output
    (N, K, H, W) has them, one per pixel, as in segmentation.

    Args:
        model: The model.
        output: Name of the output that the card says has them; None takes the first that fits.

    Raises:
        CardError: The model has no output of that name.
    """
    outputs = _named(model.graph, output)
    numbers = [v for v in outputs if v.dtype in FLOATS | QUANTISED and not _is_sorted(v)]
    fitting = [v for v in numbers if _row_axis(v) is not None] or [v for v in numbers if _class_axis(v) is not None]
    if not fitting:
        shapes = ", ".join(f"{v.name!r} is {_shown(v)}" for v in outputs)
        reason = f"no output has one score per class and sample, (N, K): {shapes}"
        return Head(reason=reason, gap_reason="the model has no class output")
    ranks = [(v.dtype in FLOATS, _classes(v) != 1) for v in fitting]
    best = [v for v, rank in zip(fitting, ranks, strict=True) if rank == max(ranks)]
    features = _features(best)
    return _head(model.graph, next((v for v in best if v not in features), best[0]))


def _named(graph: ir.Graph, output: str | None) -> list[ir.Value]:
    found = [v for v in graph.outputs if output in (None, v.name)]
    if not found:
        names = ", ".join(repr(v.name) for v in graph.outputs)
        raise CardError(f"the card names {output!r} as the class output, which is not one of the model's: {names}")
    return found


def _is_sorted(output: ir.Value) -> bool:
    """Tell whether a TopK has taken the numbers out of the order of the classes."""
    producers = (v.producer() for v in _unwrapped(output))
    return any(node is not None and node.op_type == "TopK" for node in producers)


def _features(outputs: Sequence[ir.Value]) -> set[ir.Value]:
    """Return those that another of them is computed from by more than wrapping and an activation."""
    if len(outputs) == 1:
        return set()
    found: set[ir.Value] = set()
    for output in outputs:
        _, logits, _ = _before_activation(output)
        found |= values_behind([logits]) - set(_unwrapped(logits))
    return found & set(outputs)


def _head(graph: ir.Graph, output: ir.Value) -> Head:
    runtime = computed(graph)
    activation, logits, probabilities = _before_activation(output)
    gap = find_gap(logits, runtime)
    scale, zero_point = _step(output)
    return Head(
        output=output.name,
        output_class_axis=_class_axis(output) or 1,
        output_scale=scale,
        output_zero_point=zero_point,
        classes=_classes(output),
        logits=logits.name,
        class_axis=_class_axis(logits) or 1,
        activation=activation,
        probabilities=probabilities.name if probabilities is not None else None,
        gap=gap if isinstance(gap, Gap) else None,
        gap_reason="" if isinstance(gap, Gap) else gap,
    )


# ----- Shapes -----


def _class_axis(value: ir.Value) -> int | None:
    """Return the axis of classes of (N, K), with axes of 1 beside, or of (N, K, H, W); None for any other shape."""
    row = _row_axis(value)
    return _pixel_axis(value) if row is None else row


def _row_axis(value: ir.Value) -> int | None:
    """Return the one axis beside the first that is longer than 1, or axis 1 if none is."""
    shape = dims(value)
    if shape is None or len(shape) < 2:
        return None
    long = [axis for axis, d in enumerate(shape) if axis > 0 and d != 1]
    if len(long) > 1:
        return None
    return long[0] if long else 1


def _pixel_axis(value: ir.Value) -> int | None:
    """Return the axis of classes of a map: the second, unless only the last can be (N, H, H, K)."""
    shape = dims(value)
    if shape is None or len(shape) != 4:
        return None
    axis = 3 if shape[1] == shape[2] != shape[3] else 1
    size = shape[axis]
    return axis if isinstance(size, int) and size > 1 else None


def _classes(value: ir.Value) -> int | None:
    axis = _class_axis(value)
    size: Dim = (dims(value) or ())[axis] if axis is not None else None
    return size if isinstance(size, int) else None


def _shown(value: ir.Value) -> str:
    shape = dims(value)
    if shape is None:
        return "of unknown shape"
    return (
        f"({', '.join('?' if d is None else str(d) for d in shape)}){', sorted by TopK' if _is_sorted(value) else ''}"
    )


def _step(output: ir.Value) -> tuple[float, int]:
    """Return what a step of a quantised output is worth, and what stands for 0; 1 and 0 of any other."""
    q = quantisation_of(output)
    if q is None:
        return 1.0, 0
    scale, zero_point = _array(q.scale), _array(q.zero_point)
    if scale is None or scale.size != 1:
        return 1.0, 0
    return float(scale.item()), 0 if zero_point is None else int(zero_point.item())


def _array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()


# ----- The activation -----


def _before_activation(output: ir.Value) -> tuple[str | None, ir.Value, ir.Value | None]:
    """Return the activation's kind, the logits before it and the probabilities behind it.

    Without an activation the logits are the first float value that the output wraps.
    """
    chain = list(_unwrapped(output))
    for value in chain:
        found = _activation_of(value)
        if found is not None:
            kind, logits = found
            floats = value.dtype in FLOATS and kind != "log-softmax"
            return kind, _before_flatten(logits), value if floats else None
    return None, next((v for v in chain if v.dtype in FLOATS), output), None


def _unwrapped(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the value and those it wraps, as long as they are one row of classes per sample."""
    classes = _classes(value)
    while True:
        yield value
        node = value.producer()
        source = node.inputs[0] if node is not None and node.op_type in WRAPPERS and node.inputs else None
        if source is None or _class_axis(source) is None or _classes(source) != classes:
            return
        value = source


def _activation_of(value: ir.Value) -> tuple[str, ir.Value] | None:
    """Return the kind and the input of the activation that makes `value`, if one over the classes does."""
    node = value.producer()
    if node is None:
        return None
    source = node.inputs[0]
    if node.op_type in ACTIVATIONS and source is not None:
        axis = node.attributes.get_int("axis", -1) % len(dims(source) or (0,))
        if node.op_type == "Sigmoid" or axis == _class_axis(source):
            return ACTIVATIONS[node.op_type], source
        return None
    return _decomposed(node)


def _before_flatten(value: ir.Value) -> ir.Value:
    """Step over the Flatten that the version converter writes before a Softmax of opset 12 or earlier."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Flatten" else None
    return source if source is not None and _class_axis(source) == _class_axis(value) == 1 else value


def _decomposed(node: ir.Node) -> tuple[str, ir.Value] | None:
    """Recognise exp(x) / sum(exp(x)), with or without its maximum subtracted, and the logarithm of it."""
    if len(node.inputs) != 2:
        return None
    left, right = (v.producer() if v is not None else None for v in node.inputs)
    if left is None or right is None:
        return _log_softmax(node.inputs[0], right) if node.op_type == "Sub" else None
    if node.op_type == "Mul" and right.op_type == "Reciprocal":
        right = right.inputs[0].producer() if right.inputs[0] is not None else None
    elif node.op_type != "Div":
        return _log_softmax(node.inputs[0], right) if node.op_type == "Sub" else None
    if left.op_type == "Exp" and _sums(right, left.outputs[0], "ReduceSum"):
        return _softmax(left.inputs[0])
    return None


def _softmax(value: ir.Value | None) -> tuple[str, ir.Value] | None:
    shift = value.producer() if value is not None else None
    if shift is not None and shift.op_type == "Sub":
        shifted, largest = shift.inputs
        if shifted is not None and largest is not None and _sums(largest.producer(), shifted, "ReduceMax"):
            value = shifted
    return None if value is None or _class_axis(value) is None else ("softmax", value)


def _log_softmax(value: ir.Value | None, subtracted: ir.Node | None) -> tuple[str, ir.Value] | None:
    if value is None or subtracted is None or not _sums(subtracted, value, "ReduceLogSumExp"):
        return None
    return "log-softmax", value


def _sums(node: ir.Node | None, value: ir.Value, op_type: str) -> bool:
    """Tell whether `node` reduces `value` over its classes."""
    if node is None or node.op_type != op_type or node.inputs[0] is not value:
        return False
    axes = _array(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = len(dims(value) or ())
    return axes is not None and [int(a) % rank for a in axes.reshape(-1)] == [_class_axis(value)]
