"""Build the explainer graph of a method on a model: what `explain` runs and `compile` saves."""

import json
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from onnxsal.autodiff.primal import Primal
from onnxsal.detectors.registry import Proposals
from onnxsal.errors import LayerError, TargetError, UnsupportedModel
from onnxsal.graph.builder import Op, rank
from onnxsal.graph.canonical import MAX_IR_VERSION, opset_of
from onnxsal.graph.find import find_value
from onnxsal.graph.one_hot import hot_index, one_hot
from onnxsal.graph.prune import prune
from onnxsal.graph.runtimes import RUNTIMES, RuntimeName
from onnxsal.graph.types import Dim, dims
from onnxsal.methods.pixels import MASK, counted
from onnxsal.methods.registry import Method, method_name
from onnxsal.methods.view import Scalar, View, enlarge, real_numbers
from onnxsal.model.findings import Findings
from onnxsal.model.grid import fold
from onnxsal.targets import Form, resolve_top

TARGET = "target"
MINUS = "target_minus"
CLASS = "target_class"
SIDES = ("x1", "y1", "x2", "y2")
ATTRIBUTION = "attribution"
SALIENCY_MAP = "saliency_map"
SCORE = "target_score"  # plain "score" is a name that models use themselves
OURS = frozenset({TARGET, MINUS, CLASS, MASK, ATTRIBUTION, SALIENCY_MAP, SCORE})


Decode = Callable[[Op], Proposals]


@dataclass(frozen=True)
class Explainer:
    """An explainer graph, and what was chosen on the way.

    Attributes:
        model: The graph. Inputs: the model's own, `target` (N,) int64, for a contrast `target_minus`.
            Outputs: the model's own, `attribution`, `saliency_map` (N, H, W), `target_score` (N,).
        layer: Name of the layer the method looked at, if it did.
        rectifiers: Names of the nodes a modified gradient changed.
        channels: Where the target is a neuron, how many channels its layer has, if known.
    """

    model: ir.Model
    layer: str | None
    rectifiers: tuple[str, ...]
    channels: int | None = None


def build_explainer(
    model: ir.Model,
    findings: Findings,
    method: Method,
    form: Form,
    runtime: RuntimeName = "native",
    decode: Decode | None = None,
    *,
    bare: bool = False,
) -> Explainer:
    """Write the explanation `method` of a target of that form into a copy of a canonical model.

    Args:
        model: The model.
        findings: What was found in it.
        method: The method.
        form: The form of the target.
        runtime: What will run it (`graph.runtimes`).
        decode: Emits a detector's proposals, for a target that is one of them.
        bare: Give the attribution alone, and take a class as told, never for the top one: what a loop needs. No
            scores are computed then, and no picture (MobileNetV2: a tenth of a gradient).

    Raises:
        OnnxsalError: The method or the target does not fit the model.
    """
    result = model.clone()
    graph = result.graph
    op = Op(graph, opset_of(result), result.ir_version or MAX_IR_VERSION, runtime=RUNTIMES[runtime])
    _close_weights(graph)
    _check_room(graph)
    inner = [*graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    scalar = _scalar(op, findings, form, decode, told=bare)
    view = View(op, findings, scalar)
    with op.scope(method_name(method)):
        attribution = method.build(op, view)
        pictured = None if bare else _pictured(op, view, method, attribution, findings)
        score = None if bare else _score(op, scalar)
    op.check_spellings()
    image = dims(view.image) or (None,) * 4
    _make_room(inner)
    own = frozenset(inner)
    if bare:
        graph.outputs.clear()
    _output(op, attribution, ATTRIBUTION, (image[0], *(dims(attribution) or ())[1:]), own)
    if pictured is not None and score is not None:
        _output(op, pictured, SALIENCY_MAP, (image[0], *(image[axis] for axis in findings.spatial_axes)), own)
        _output(op, score, SCORE, (image[0],), own)
    result.ir_version = min(max(result.ir_version or MAX_IR_VERSION, 8), MAX_IR_VERSION)
    result.producer_name = "onnxsal"
    touched = tuple(view.rectifiers()) if view.is_modified else ()
    layer = view.used_layer
    channels = (dims(scalar.of) or (None, None))[1] if form.kind == "neuron" else None
    prune(result)
    return Explainer(result, layer.name if layer else None, touched, channels if isinstance(channels, int) else None)


def describe(explainer: Explainer, method: Method, form: Form, findings: Findings) -> dict[str, str]:
    """Return the metadata that lets a compiled explainer be run without the model it was made from."""
    facts: dict[str, Any] = {
        "method": method_name(method),
        "settings": vars(method),
        "form": {"kind": form.kind, "layer": form.layer, "at": form.at, "part": form.part, "pixels": form.pixels},
        "layer": explainer.layer,
        "rectifiers": list(explainer.rectifiers),
        "channels": explainer.channels,
        "findings": findings.summary(),
    }
    return {"onnxsal.explainer": json.dumps(facts)}


def _close_weights(graph: ir.Graph) -> None:
    """Take the weights off the inputs, where files up to IR 3 list them.

    ONNX Runtime folds and fuses only what no caller can override, and who runs the graph need not see them.
    """
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    graph.inputs.clear()
    graph.inputs.extend(inputs)


def _check_room(graph: ir.Graph) -> None:
    """Refuse a model that has an input or output with the name of one that is added."""
    for value in [*graph.inputs, *graph.outputs]:
        if value.name in OURS:
            raise UnsupportedModel(
                f"the model has an input or output {value.name!r} itself, which explanations use: rename it in the file"
            )


def _make_room(values: Iterable[ir.Value]) -> None:
    """Rename the model's inner values that have the name of an input or output that is added."""
    for value in values:
        if value.name in OURS:
            value.name = f"{value.name}_of_model"


# ----- The target -----


def _scalar(op: Op, findings: Findings, form: Form, decode: Decode | None, *, told: bool) -> Scalar:
    with op.scope(TARGET):
        if form.kind == "box":
            assert decode is not None
            return detection_scalar(op, decode(op), form.part)
        if form.kind == "neuron":
            return _neuron(op, findings, form)
        return _class_target(op, findings, form, told=told)


def _index_input(op: Op, name: str, batch: Any) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([batch]))
    op.graph.inputs.append(value)
    return value


def _class_target(op: Op, findings: Findings, form: Form, *, told: bool) -> Scalar:
    head = findings.head
    if head.logits is None:
        raise TargetError(f"the model has no class to explain: {head.reason}; explain a neuron: layer:NAME,channel=17")
    logits = find_value(op.graph, head.logits)
    op.once(Primal).spare(logits)
    of = _probability(op, findings, logits) if form.kind == "probability" else logits
    scores = _as_rows(op, real_numbers(op, of), head.class_axis)
    index = _index_input(op, TARGET, _batch(logits))
    count = op.dim(scores, 1)
    ranking = None if told else _ranking(op, findings, scores)
    chosen = index if ranking is None else resolve_top(op, index, ranking)
    seed = one_hot(op, chosen, count, scores)
    if form.kind == "contrast":
        minus = _index_input(op, MINUS, _batch(logits))
        other = minus if ranking is None else resolve_top(op, minus, ranking)
        seed = op.Sub(seed, one_hot(op, other, count, scores))
    seed, where = _from_rows(op, seed, of, head.class_axis), counted(op, findings, form, logits, chosen)
    return Scalar(of, seed if where is None else op.Mul(seed, op.cast(where, seed.dtype)))


def _ranking(op: Op, findings: Findings, scores: ir.Value) -> ir.Value:
    """Return (N, K), whose largest is the top class: the model's output, so that it is the class predicted.

    Logits may rank otherwise: a sigmoid gives 1 to all that are large, and the first of these is on top.
    """
    head = findings.head
    if head.output is None:
        return scores
    output = op.once(Primal).read(find_value(op.graph, head.output))
    return _as_rows(op, op.cast(output, ir.DataType.FLOAT), head.output_class_axis)


def _probability(op: Op, findings: Findings, logits: ir.Value) -> ir.Value:
    """Return the model's own probabilities, or the softmax of its logits where it ends with these."""
    head = findings.head
    if head.probabilities is not None:
        return op.once(Primal).read(find_value(op.graph, head.probabilities))
    if head.activation == "sigmoid":
        return op.Sigmoid(real_numbers(op, logits))
    return op.Softmax(real_numbers(op, logits), axis=head.class_axis)


def _as_rows(op: Op, value: ir.Value, class_axis: int) -> ir.Value:
    """Return (N, K): what lies beside the class axis is summed over (a segmentation's pixels)."""
    others = [axis for axis in range(1, rank(value)) if axis != class_axis]
    return op.ReduceSum(value, axes=others, keepdims=0) if others else value


def _from_rows(op: Op, rows: ir.Value, like: ir.Value, class_axis: int) -> ir.Value:
    """Return (N, K) repeated in the shape of `like`."""
    others = [axis for axis in range(1, rank(like)) if axis != class_axis]
    if not others:
        return rows
    return op.Expand(op.Unsqueeze(rows, others), op.shape(op.once(Primal).shaped_like(like)))


def _neuron(op: Op, findings: Findings, form: Form) -> Scalar:
    assert form.layer is not None
    value = find_value(op.graph, form.layer)
    layer = findings.layer_or_none(op.graph, form.layer)
    of = fold(op, real_numbers(op, value), layer) if layer is not None else op.once(Primal).read(value)
    if rank(of) < 2:
        raise LayerError(f"layer {form.layer!r} has no channels: its shape is {dims(value)}")
    _check_place(form, of)
    pixels = list(range(2, rank(of)))
    activity = op.ReduceMax(real_numbers(op, of), axes=pixels, keepdims=0) if pixels else real_numbers(op, of)
    index = resolve_top(op, _index_input(op, TARGET, _batch(of)), activity)
    seed = one_hot(op, index, op.dim(of, 1), activity)
    if not pixels:
        return Scalar(of, seed)
    seed = op.Unsqueeze(seed, pixels)
    if form.at is not None:
        for axis, at in zip(pixels, form.at, strict=True):
            row = one_hot(op, op.const([at]), op.dim(of, axis), activity)
            seed = op.Mul(seed, op.Unsqueeze(row, [a for a in range(1, rank(of)) if a != axis]))
        return Scalar(of, seed)
    return Scalar(of, op.Expand(seed, op.shape(of)))


def _check_place(form: Form, of: ir.Value) -> None:
    if form.at is None:
        return
    size = (dims(of) or ())[2:]
    if len(size) != 2:
        raise TargetError(
            f"layer {form.layer!r} has no rows and columns, so at={form.at[0]},{form.at[1]} means nothing there"
        )
    if any(isinstance(d, int) and at >= d for at, d in zip(form.at, size, strict=True)):
        raise TargetError(
            f"at={form.at[0]},{form.at[1]} lies outside layer {form.layer!r}, which has {size[0]} rows and "
            f"{size[1]} columns"
        )


def _batch(value: ir.Value) -> Any:
    return (dims(value) or (None,))[0]


def detection_scalar(op: Op, proposals: Proposals, part: str = "score") -> Scalar:
    """Return one proposal's score, or the place of one side of its box.

    Of a score close to 1 little gradient is left, so that of its log-odds is taken, of the class's probability and of
    the objectness where there is one: dp / (p (1 - p)) is what arrives before their sigmoids.
    """
    batch = _batch(proposals.boxes)
    chosen = one_hot(op, _index_input(op, TARGET, batch), op.dim(proposals.boxes, 1), real_numbers(op, proposals.boxes))
    if part != "score":
        side = op.Squeeze(op.Gather(real_numbers(op, proposals.boxes), op.const([SIDES.index(part)]), axis=2), [2])
        of = op.ReduceSum(op.Mul(side, chosen), axes=[1], keepdims=1)
        return Scalar(of, op.Expand(op.scalar(1, like=of), op.shape(of)))
    p = real_numbers(op, proposals.probabilities)
    chosen = op.cast(chosen, p.dtype)  # boxes may be double where scores are not
    column = one_hot(op, _index_input(op, CLASS, batch), op.dim(p, 2), p)
    rows = [
        op.ReduceSum(op.Mul(op.ReduceSum(op.Mul(p, op.Unsqueeze(column, [1])), axes=[2], keepdims=0), chosen), axes=[1])
    ]
    if proposals.objectness is not None:
        objectness = op.cast(real_numbers(op, proposals.objectness), p.dtype)
        rows.append(op.ReduceSum(op.Mul(objectness, chosen), axes=[1]))
    of = op.Concat(*rows, axis=1) if len(rows) > 1 else rows[0]
    slope = op.Mul(of, op.Sub(op.scalar(1, like=of), of))
    return Scalar(of, op.Reciprocal(op.Max(slope, op.scalar(1e-12, like=of))))


# ----- Outputs -----


def _pictured(op: Op, view: View, method: Method, attribution: ir.Value, findings: Findings) -> ir.Value:
    """Return an attribution as a map of the image's size, from 0 to 1."""
    heat = attribution if rank(attribution) == 3 else _reduce(op, method, attribution, findings.image_channel_axis)
    large = enlarge(op, heat, view.image, findings.spatial_axes)  # which makes nothing negative that was not
    return _scale_to_unit(op, large if _is_nowhere_negative(heat) else op.Relu(large))


def _is_nowhere_negative(heat: ir.Value) -> bool:
    """Tell whether a map is known to have no negative entry: the last thing done was to cut them off, or magnitudes."""
    node = heat.producer()
    if node is not None and node.op_type == "ReduceMax" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in ("Relu", "Abs")


def _reduce(op: Op, method: Method, attribution: ir.Value, channel_axis: int) -> ir.Value:
    """Return a map (N, H, W) from an attribution with channels, as the method says."""
    own: Callable[..., ir.Value] | None = getattr(method, "reduce", None)
    if own is not None:
        return own(op, attribution, channel_axis)
    return op.ReduceMax(op.Abs(attribution), axes=[channel_axis], keepdims=0)


def _score(op: Op, scalar: Scalar) -> ir.Value:
    """Return the target's value, (N,)."""
    of, index = real_numbers(op, scalar.of), hot_index(scalar.seed)
    if index is not None:
        return op.Squeeze(op.GatherElements(of, op.Unsqueeze(index, [1]), axis=1), [1])
    product = op.Mul(of, scalar.seed)
    return op.ReduceSum(product, axes=list(range(1, rank(product))), keepdims=0)


def _scale_to_unit(op: Op, heat: ir.Value) -> ir.Value:
    """Divide each sample's map by its maximum; a map of zeros stays one."""
    peak = op.ReduceMax(heat, axes=[1, 2], keepdims=1)
    zero = op.scalar(0, like=heat)
    return op.Div(heat, op.Where(op.Greater(peak, zero), peak, op.scalar(1, like=heat)))


def _output(op: Op, value: ir.Value, name: str, shape: Sequence[Dim], inner: Container[ir.Value]) -> None:
    """Make `value`, as float32, the graph output `name`; inference may know less of its shape than `shape`.

    What is the model's own (`inner`, inputs, outputs) keeps its name, and is copied.
    """
    value = op.cast(value, ir.DataType.FLOAT)
    if value.producer() is None or value in inner or value.is_graph_output():
        copy = ir.Value(type=value.type)
        op.graph.append(ir.Node("", "Identity", [value], outputs=[copy], name=name))
        value = copy
    value.name, value.shape = name, ir.Shape(shape)
    op.graph.outputs.append(value)
