"""`vjp`: from a model to the model that also computes its vector-Jacobian products."""

from collections.abc import Callable, Sequence
from typing import overload

import onnx
import onnx_ir as ir

from onnxsal.autodiff.backward import differentiate
from onnxsal.autodiff.primal import Primal
from onnxsal.autodiff.registry import STANDARD, Rule, RuleBook
from onnxsal.errors import LayerError, OnnxsalError
from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import MAX_IR_VERSION, canonicalise, opset_of
from onnxsal.graph.find import find_value
from onnxsal.graph.prune import prune
from onnxsal.graph.runtimes import RUNTIMES, RuntimeName


@overload
def vjp(
    model: ir.Model | onnx.ModelProto,
    *,
    of: str | Sequence[str],
    wrt: str | Sequence[str],
    rules: RuleBook = STANDARD,
    keep_half: bool = False,
    target: RuntimeName = "native",
) -> ir.Model: ...


@overload
def vjp(model: str, *, wrt: str, domain: str = "", rules: RuleBook = STANDARD) -> Callable[[Rule], Rule]: ...


def vjp(
    model: ir.Model | onnx.ModelProto | str,
    *,
    of: str | Sequence[str] = (),
    wrt: str | Sequence[str],
    rules: RuleBook = STANDARD,
    keep_half: bool = False,
    target: RuntimeName = "native",
    domain: str = "",
) -> ir.Model | Callable[[Rule], Rule]:
    """Return a model that computes, beside its outputs, the cotangents of `wrt` given those of `of`.

    The result has the original inputs and outputs; an input `cotangent_<of>` per `of`, with that
    value's shape; an output `grad_<wrt>` per `wrt`, with that value's shape, zero where nothing
    depends on it. What is added uses standard operators only. The IR version stays; the opset becomes
    21 unless the model needs a later one. Weights are shared with `model`, not copied.

    In the place of a model the name of an operator makes it the decorator that registers how the
    cotangent of the operator's input `wrt` is made: `@vjp("MyOp", wrt="0", domain="com.acme")`.

    Args:
        model: Any ONNX model; it is left as it is.
        of: Names of float values: inputs, outputs or intermediate ones. Quantised values have cotangents,
            too: float32, with respect to the real numbers that they stand for.
        wrt: Names of such values.
        rules: The rule book; `STANDARD` is the true derivative.
        keep_half: Compute the gradients of float16 and bfloat16 values in their own type. They are
            computed, and handed in and out, in float32 otherwise, since small ones vanish in float16.
        target: The runtime to write for. `native` is ONNX Runtime on a CPU; `gpu` its other execution providers
            (CUDA, TensorRT, ...), where the lowerings that a CPU is fast with are slower, and inexact at kinks.
            `web` keeps to what WebGPU in a browser has kernels for: nothing is scattered, no MaxPool gives
            Indices, no Slice runs backwards, convolutions say all their geometry. The model's own nodes stay as
            they are.
        domain: Of the operator, where one is named.

    Raises:
        LayerError: A name is not in the model, or is neither a float value nor a quantised one.
        MissingRule: Operators on the way have no rule.
        UnsupportedModel: The gradient cannot be written for the target.
        ValueError: There is no such target; the operator that is named has no such input, or there is a rule already.
    """
    if isinstance(model, str):
        if not isinstance(wrt, str) or of:
            raise TypeError(
                f"vjp({model!r}, ...) names an operator, to register a rule for one of its inputs: "
                f"to differentiate a model, load it first (onnx_ir.load)"
            )
        return rules.rule(model, wrt=wrt, domain=domain)
    if target not in RUNTIMES:
        raise ValueError(f"no target {target!r}; there are {', '.join(map(repr, RUNTIMES))}")
    return _differentiated(model, _names(of), _names(wrt), rules, keep_half, target)


def _differentiated(
    model: ir.Model | onnx.ModelProto,
    sources: Sequence[str],
    targets: Sequence[str],
    rules: RuleBook,
    keep_half: bool,
    target: RuntimeName,
) -> ir.Model:
    if isinstance(model, onnx.ModelProto):
        model = ir.from_proto(model)
    result = canonicalise(model)
    graph = result.graph
    op = Op(graph, opset_of(result), result.ir_version, runtime=RUNTIMES[target])
    values = {name: _value(op, name) for name in [*sources, *targets]}
    seeds: dict[ir.Value, ir.Value] = {}
    for name in sources:
        seed = _cotangent_input(op, values[name], name, keep_half)
        # A value and its node are two names of one thing.
        seeds[values[name]] = op.Add(seeds[values[name]], seed) if values[name] in seeds else seed
    gradients = differentiate(op, seeds, [values[name] for name in targets], rules, keep_half=keep_half)
    for name, g in zip(targets, gradients, strict=True):
        _expose(op, values[name], g, f"grad_{name}", keep_half)
    op.check_spellings()
    if target == "web":
        result.ir_version = min(result.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)
    _settle_constants(model, graph)
    prune(result)
    return result


def _names(names: str | Sequence[str]) -> list[str]:
    return list(dict.fromkeys([names] if isinstance(names, str) else names))


def _value(op: Op, name: str) -> ir.Value:
    value = find_value(op.graph, name)
    if not op.once(Primal).carries(value):
        raise LayerError(
            f"{name!r} is of type {value.type}, which has no gradient: name a float value, or a quantised one"
        )
    return value


def _gradient_type(op: Op, value: ir.Value, keep_half: bool) -> ir.DataType:
    found = op.once(Primal).gradient_type(value, keep_half=keep_half)
    assert found is not None
    return found


def _cotangent_input(op: Op, value: ir.Value, name: str, keep_half: bool) -> ir.Value:
    name = f"cotangent_{name}"
    _check_free(op.graph, name)
    made = ir.Value(name=name, type=ir.TensorType(_gradient_type(op, value, keep_half)), shape=value.shape)
    op.graph.inputs.append(made)
    return made


def _expose(op: Op, value: ir.Value, g: ir.Value | None, name: str, keep_half: bool) -> None:
    """Make a cotangent the graph output `name`."""
    _check_free(op.graph, name)
    dtype = _gradient_type(op, value, keep_half)
    zeros = op.Expand(op.const(0.0, dtype), op.shape(op.once(Primal).shaped_like(value))) if g is None else g
    # Its own node: one value may be the gradient of two, or a graph input.
    output = _identity(op, zeros, name)
    output.type, output.shape = ir.TensorType(dtype), value.shape
    op.graph.outputs.append(output)


def _identity(op: Op, value: ir.Value, name: str) -> ir.Value:
    output = ir.Value(name=name)
    op.graph.append(ir.Node("", "Identity", [value], outputs=[output], name=op.fresh(name)))
    return output


def _check_free(graph: ir.Graph, name: str) -> None:
    if any(v.name == name for v in [*graph.inputs, *graph.outputs]):
        raise OnnxsalError(
            f"the model has an input or output {name!r} already, which is where the result would go: rename it"
        )
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs:
            if value.name == name:
                value.name = f"{name}_of_model"


def _settle_constants(source: ir.Model, graph: ir.Graph) -> None:
    """Up to IR 3 every initializer must be an input too: write new constants as nodes there."""
    if source.ir_version is None or source.ir_version >= 4:
        return
    for name, value in list(graph.initializers.items()):
        if value.is_graph_input() or value.const_value is None:
            continue
        del graph.initializers[name]
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", value.const_value)], num_outputs=1, name=name)
        ir.convenience.replace_all_uses_with(value, node.outputs[0])
        node.outputs[0].name = name
        graph.insert_before(graph[0], node)
