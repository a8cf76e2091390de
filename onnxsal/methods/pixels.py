"""Which pixels of a segmentation's class map count towards a target: all, those of a mask, or those of the class."""

import onnx_ir as ir

from onnxsal.errors import TargetError
from onnxsal.graph.builder import Op, rank
from onnxsal.graph.find import find_value
from onnxsal.graph.types import dims
from onnxsal.methods.view import enlarge, real_numbers
from onnxsal.model.findings import Findings
from onnxsal.targets import NO_MAP, Form

MASK = "target_mask"


def counted(op: Op, findings: Findings, form: Form, logits: ir.Value, index: ir.Value) -> ir.Value | None:
    """Return which pixels count, in [0, 1], in the shape of `logits` but for one class; None where all do.

    Args:
        op: The builder.
        findings: What was found in the model.
        form: The form of the target.
        logits: Of all classes and pixels.
        index: (N,), the class of each sample.

    Raises:
        TargetError: A mask is asked for, and the model's scores have no pixels.
    """
    axes = pixel_axes(logits, findings.head.class_axis)
    if form.pixels == "mask" and not axes:
        raise TargetError(NO_MAP)
    if form.pixels == "all" or not axes:
        return None
    if form.pixels == "mask":
        return _given(op, findings, logits, axes)
    return _predicted(op, findings, logits, index)


def pixel_axes(value: ir.Value, class_axis: int) -> list[int]:
    """Return the axes beside samples and classes, if along one of them there is more than one place."""
    shape = dims(value) or ()
    axes = [axis for axis in range(1, rank(value)) if axis != class_axis]
    return axes if any(shape[axis] != 1 for axis in axes) else []


def _given(op: Op, findings: Findings, logits: ir.Value, axes: list[int]) -> ir.Value:
    """Return the input `target_mask` (N, H, W), at the resolution of the model's input, brought to that of the map."""
    image = dims(find_value(op.graph, findings.gradient_point)) or (None,) * 4
    shape = [(dims(logits) or (None,))[0], *(image[axis] for axis in findings.spatial_axes)]
    mask = ir.Value(name=MASK, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
    op.graph.inputs.append(mask)
    return op.Unsqueeze(enlarge(op, mask, logits, axes), [findings.head.class_axis])


def _predicted(op: Op, findings: Findings, logits: ir.Value, index: ir.Value) -> ir.Value:
    """Return 1 at pixels whose likeliest class is the target's; behind sigmoids, where it is likely at all."""
    axis, scores = findings.head.class_axis, real_numbers(op, logits)
    own = op.Unsqueeze(index, list(range(1, rank(logits))))
    if findings.head.activation != "sigmoid":
        return op.cast(op.Equal(op.ArgMax(scores, axis=axis, keepdims=1), own), scores.dtype)
    plane = _plane(op, scores, own, axis)
    return op.cast(op.Greater(plane, op.scalar(0, like=plane)), scores.dtype)


def _plane(op: Op, scores: ir.Value, index: ir.Value, axis: int) -> ir.Value:
    """Return the scores of one class of each sample; `index` is (N, 1, 1, 1)."""
    counted = op.Range(op.const(0), op.Squeeze(op.dim(scores, axis), [0]), op.const(1))
    beside = [a for a in range(rank(scores)) if a != axis]
    hot = op.cast(op.Equal(op.Unsqueeze(counted, beside), index), scores.dtype)
    return op.ReduceSum(op.Mul(scores, hot), axes=[axis], keepdims=1)
