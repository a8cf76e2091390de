"""Find the classes: logits behind a final softmax, the class axis, a head of global average pooling."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from onnxsal.errors import UnsupportedModel
from onnxsal.graph.types import constant, dims, is_float

SAME_NUMBERS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose", "Dropout"})
ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
LINEAR = frozenset({"Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Conv", "BatchNormalization"}) | SAME_NUMBERS


@dataclass(frozen=True)
class Gap:
    """A head of global average pooling and linear layers.

    Attributes:
        pooled: Name of the averaged value, one number per channel.
        features: Name of the layer that is averaged.
    """

    pooled: str
    features: str


@dataclass(frozen=True)
class Head:
    """The classes of a model; of a model without, all is None but `reason`.

    Attributes:
        output: Name of the graph output with the classes.
        output_class_axis: Its class axis.
        classes: How many classes there are; None where only the run knows.
        activation: `softmax`, `log-softmax` or `sigmoid` between logits and output; None if there is none.
        logits: Name of the value before that activation, or of the output.
        class_axis: The class axis of the logits.
        probabilities: Name of the value behind the activation; None if there is none, or it is a logarithm.
        output_scale: What one step of an integer output stands for.
        gap: The global-average-pool head.
        gap_reason: Why there is none.
        reason: Why there are no classes.
    """

    output: str | None = None
    output_class_axis: int | None = None
    classes: int | None = None
    activation: str | None = None
    logits: str | None = None
    class_axis: int = 1
    probabilities: str | None = None
    output_scale: float | None = None
    gap: Gap | None = None
    gap_reason: str = ""
    reason: str = ""


def find_head(model: ir.Model, output: str | None = None) -> Head:
    """Find the classes in a canonical model.

    Args:
        model: The model.
        output: Name of the output with the classes; None takes the first that can have them.

    Raises:
        UnsupportedModel: There is no output of that name.
    """
    graph = model.graph
    value = _class_output(graph, output)
    if value is None:
        shapes = ", ".join(f"{v.name!r} {dims(v)}" for v in graph.outputs)
        return Head(reason=f"no output has one row of class scores per sample; the outputs are {shapes}")
    axis, classes = _class_axis(value)
    source, scale = _behind_quantisation(value)
    activation = _activation(source)
    logits = source if activation is None else activation[1]
    kind = None if activation is None else activation[0]
    logits = _nearest_with_axis(logits)
    gap, reason = _find_gap(logits)
    return Head(
        output=value.name,
        output_class_axis=axis,
        classes=classes,
        activation=kind,
        logits=logits.name,
        class_axis=_class_axis(logits)[0],
        probabilities=None if activation is None or kind == "log-softmax" else activation[2].name,
        output_scale=scale,
        gap=gap,
        gap_reason=reason,
    )


# ----- Output and axis -----


def _class_output(graph: ir.Graph, name: str | None) -> ir.Value | None:
    if name is not None:
        found = next((v for v in graph.outputs if v.name == name), None)
        if found is None:
            names = ", ".join(repr(v.name) for v in graph.outputs)
            raise UnsupportedModel(f"the card names output {name!r}, which the model does not have; it has {names}")
        return found
    able = [v for v in graph.outputs if _is_row_of_classes(v)]
    return able[0] if able else next((v for v in graph.outputs if _is_map_of_classes(v)), None)


def _is_row_of_classes(value: ir.Value) -> bool:
    """Tell whether a value is (N, K), perhaps with axes of 1 beside."""
    shape = dims(value)
    if shape is None or not 2 <= len(shape) <= 5 or not _has_numbers(value):
        return False
    long = [d for d in shape[1:] if d != 1]
    return len(long) == 1 or (len(long) == 0 and shape[1] == 1)


def _is_map_of_classes(value: ir.Value) -> bool:
    """Tell whether a value is (N, K, H, W), as segmentation gives it."""
    shape = dims(value)
    return shape is not None and len(shape) == 4 and is_float(value) and isinstance(shape[1], int)


def _has_numbers(value: ir.Value) -> bool:
    return is_float(value) or value.dtype in (ir.DataType.UINT8, ir.DataType.INT8)


def _class_axis(value: ir.Value) -> tuple[int, int | None]:
    shape = dims(value) or ()
    long = [axis for axis, d in enumerate(shape) if axis > 0 and d != 1]
    axis = long[0] if len(long) == 1 else 1
    size = shape[axis] if axis < len(shape) else None
    return axis, size if isinstance(size, int) else None


def _behind_quantisation(value: ir.Value) -> tuple[ir.Value, float | None]:
    """Return the float value that an integer output was made from, and its step."""
    if is_float(value):
        return value, None
    for node in _up(value):
        if node.op_type == "QuantizeLinear":
            scale = constant(node.inputs[1])
            source = node.inputs[0]
            assert source is not None
            return source, None if scale is None else float(scale.reshape(-1)[0])
        if node.op_type not in SAME_NUMBERS:
            break
    return value, None


# ----- The softmax -----


def _up(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the producers of a value, following first inputs."""
    node = value.producer()
    while node is not None:
        yield node
        node = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None


def _activation(value: ir.Value) -> tuple[str, ir.Value, ir.Value] | None:
    """Return kind, input and output of the final activation, looked for through what moves numbers only."""
    for node in _up(value):
        before = node.inputs[0] if node.inputs else None
        if node.op_type in ACTIVATIONS and before is not None:
            return ACTIVATIONS[node.op_type], before, node.outputs[0]
        if node.op_type == "Div" and (logits := _spelled_out(node)) is not None:
            return "softmax", logits, node.outputs[0]
        if node.op_type not in SAME_NUMBERS:
            return None
    return None


def _spelled_out(node: ir.Node) -> ir.Value | None:
    """Return x of Exp(x) / ReduceSum(Exp(x)); of x - max(x), the x."""
    above, below = node.inputs
    exp = above.producer() if above is not None else None
    total = below.producer() if below is not None else None
    if exp is None or total is None or exp.op_type != "Exp" or total.op_type != "ReduceSum":
        return None
    if total.inputs[0] is not above:
        return None
    x = exp.inputs[0]
    shift = x.producer() if x is not None else None
    if shift is not None and shift.op_type == "Sub" and shift.inputs[1] is not None:
        largest = shift.inputs[1].producer()
        if largest is not None and largest.op_type == "ReduceMax" and largest.inputs[0] is shift.inputs[0]:
            return shift.inputs[0]
    return x


def _nearest_with_axis(logits: ir.Value) -> ir.Value:
    """Step back over what reshaped the logits for the softmax only, to a value with a class axis."""
    for node in _up(logits):
        if _is_row_of_classes(logits) or node.op_type not in SAME_NUMBERS or node.inputs[0] is None:
            break
        logits = node.inputs[0]
    return logits


# ----- Global average pooling -----


def _find_gap(logits: ir.Value) -> tuple[Gap | None, str]:
    """Walk back from the logits through linear operators to a global average."""
    value = logits
    while (node := value.producer()) is not None:
        pooled = _pools_all(node)
        if pooled is not None:
            return Gap(str(node.outputs[0].name), str(pooled.name)), ""
        if node.op_type not in LINEAR:
            return None, f"{node.op_type} {node.name or node.outputs[0].name!r} stands before the classes"
        computed = [v for v in _data_inputs(node) if v.const_value is None]
        if len(computed) != 1:
            return None, f"{node.op_type} {node.name or node.outputs[0].name!r} joins several values before the classes"
        if node.op_type == "Conv" and not _is_pointwise(computed[0]):
            return None, f"Conv {node.name or node.outputs[0].name!r} has no pooling before it"
        if node.op_type == "Flatten" and not _is_pointwise(computed[0]):
            return None, f"{node.op_type} {node.name or node.outputs[0].name!r} keeps every place apart"
        value = computed[0]
    return None, "no pooling stands before the classes"


def _data_inputs(node: ir.Node) -> list[ir.Value]:
    """Return the inputs that carry numbers, without shapes and axes."""
    only_first = node.op_type in SAME_NUMBERS
    return [v for i, v in enumerate(node.inputs) if v is not None and not (only_first and i > 0)]


def _is_pointwise(value: ir.Value) -> bool:
    """Tell whether a value has one place per channel."""
    shape = dims(value)
    return shape is not None and sum(d != 1 for d in shape[1:]) <= 1


def _pools_all(node: ir.Node) -> ir.Value | None:
    """Return what a node averages over all places, or None if it does no such thing."""
    value = node.inputs[0] if node.inputs else None
    shape = dims(value) if value is not None else None
    if value is None or shape is None or len(shape) not in (3, 4):
        return None
    if node.op_type == "GlobalAveragePool":
        return value
    if node.op_type == "ReduceMean":
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        found = set() if axes is None else {int(a) % len(shape) for a in axes}
        return value if found in ({2, 3}, {1, 2}) and len(shape) == 4 else None
    if node.op_type == "AveragePool":
        kernel = node.attributes.get_ints("kernel_shape")
        unpadded = not any(node.attributes.get_ints("pads") or ())
        return value if kernel is not None and list(kernel) == list(shape[2:]) and unpadded else None
    return None
