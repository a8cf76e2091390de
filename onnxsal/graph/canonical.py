"""Bring a model into canonical form: the one spelling that everything above may rely on.

1. Model-local functions are inlined, and operators that are nothing but a function written out.
2. Constants are initializers, never nodes; no Identity stands between an initializer and its readers;
   small expressions of constants, and shapes that are known, are computed.
3. One opset: 21, or the model's own where it is later and something in it needs that.
4. Convolutions and poolings say their geometry: `kernel_shape`, `strides`, `dilations`, `pads`, `group`.
5. Types and shapes are inferred afresh; what the file claims about inner values is not believed. Sizes
   that are surely the same have one name, and arithmetic on shapes is done where its result is known.
6. Sequences whose entries are known before the run are read through; SequenceMap is a Loop; an If whose condition is
   known is its branch.
7. GELU is one operator, however it was written out.

All of this holds in the bodies of control flow too. Their values have names of their own, and their constants
stand in the main graph.

Names of values stay, so that what the user calls a layer is still there.
"""

from collections.abc import Callable

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common

from onnxsal.errors import UnsupportedModel
from onnxsal.graph.bounds import (
    LAST_OPSET_WITH_BOUNDS_AS_ATTRIBUTES,
    drop_unused_values,
    has_untyped_bounds,
    type_bounds,
)
from onnxsal.graph.branches import take_known_branches
from onnxsal.graph.flattening import LAST_OPSET_THAT_FLATTENS, flatten_hardmax
from onnxsal.graph.flow import subgraphs
from onnxsal.graph.functions import expand_functions
from onnxsal.graph.gelu import spell_gelu
from onnxsal.graph.geometry import spell_out_geometry
from onnxsal.graph.groups import LAST_OPSET_WITH_GROUP_SCALES, spell_group_scales
from onnxsal.graph.inference import infer_shapes, is_big, type_as_its_tensor
from onnxsal.graph.mapping import loop_over_sequences
from onnxsal.graph.order import copy_in_order
from onnxsal.graph.resampling import (
    LAST_OPSET_WITH_UPSAMPLE,
    LAST_OPSET_WITHOUT_MODES,
    sample_as_before_modes,
)
from onnxsal.graph.scopes import bodies, name_apart, share_initializers
from onnxsal.graph.sequences import read_through_sequences
from onnxsal.graph.symbols import follow_symbols
from onnxsal.graph.types import dims
from onnxsal.graph.unrolling import unroll_lists

# CUDA has no ConvTranspose, MaxPool or GlobalAveragePool kernel at opset 22 (OperatorKernels.md), and the
# browser's runtime is a release behind; 21 is the last that runs everywhere.
OPSET = 21
MAX_IR_VERSION = 10  # likewise, and enough for that opset
EARLIEST_OPSET = 7  # what ONNX Runtime still has kernels of
LATEST_OPSET = 28  # what ONNX Runtime 1.32 loads; it has no kernels yet for much of 27 and 28, which 21 has
BLOCKED_LAYOUT = "com.microsoft.nchwc"
ASIDE = "onnxsal.aside"

LAST_OPSET_WITH_BATCHED_SCAN = 8


def canonicalise(model: ir.Model) -> ir.Model:
    """Return a copy of `model` in canonical form. Weights are shared with the original, not copied.

    Raises:
        UnsupportedModel: The opset is outside 7 to 28, the model cannot be brought to opset 21, or it is laid out
            for one machine.
    """
    model = copy_in_order(model)
    _check_opset(model)
    _import_domains(model)
    _check_layout(model.graph)
    _read_small_weights(model.graph)
    for graph in model.graphs():
        _forget_shapes(graph, model)
        for value in graph.initializers.values():
            type_as_its_tensor(value)
    _name_unknown_dims(model.graph)
    _doubt_single_outputs(model.graph)
    if model.functions:
        common.InlinePass()(model)
    expand_functions(model, opset_of(model))
    before = opset_of(model)
    if before <= LAST_OPSET_WITH_BATCHED_SCAN:
        _refuse_batched_scan(model.graph)
    if before <= LAST_OPSET_WITH_GROUP_SCALES:
        spell_group_scales(model.graph)
    if before <= LAST_OPSET_THAT_FLATTENS:
        flatten_hardmax(model.graph)
    if before <= LAST_OPSET_WITH_BOUNDS_AS_ATTRIBUTES:
        drop_unused_values(model.graph)
    model = to_opset(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    name_apart(model)
    share_initializers(model)
    for graph in [model.graph, *bodies(model.graph)]:
        _bypass_identity_on_initializers(graph)
    if before <= LAST_OPSET_WITHOUT_MODES:
        sample_as_before_modes(model.graph, shrinks=before > LAST_OPSET_WITH_UPSAMPLE)
    if before <= LAST_OPSET_WITH_BOUNDS_AS_ATTRIBUTES and has_untyped_bounds(model.graph):
        infer_shapes(model, strict=False)
        type_bounds(model.graph)
    _spell_onesided(model.graph)
    infer_shapes(model)
    while spell_out_geometry(model.graph):  # first: what is computed from shapes stays, right or wrong
        _infer_again(model)
    while follow_symbols(model) or _simplify(model):
        infer_shapes(model)
    while spell_out_geometry(model.graph):
        _infer_again(model)
        follow_symbols(model)
    spell_gelu(model.graph)
    return model


def _doubt_single_outputs(graph: ir.Graph) -> None:
    """Forget that outputs are of one sample where inputs may have several: exporters write what they saw.

    PyTorch does so of outputs that its `dynamic_axes` leaves out.
    """
    free = any(len(known) > 1 and not isinstance(known[0], int) for v in graph.inputs if (known := dims(v)))
    for value in graph.outputs:
        known = dims(value) or ()
        if free and len(known) > 1 and known[0] == 1:
            value.shape = ir.Shape([None, *known[1:]])


def _simplify(model: ir.Model) -> bool:
    """Write branches and sequences that are known before the run as what they are; tell whether there were any."""
    graphs = [model.graph, *bodies(model.graph)]
    return unroll_lists(model.graph, opset_of(model)) or any(
        take_known_branches(graph) or read_through_sequences(graph, model.graph) or loop_over_sequences(graph)
        for graph in graphs
    )


def _refuse_batched_scan(graph: ir.Graph) -> None:
    """Raise for a Scan that walks over each sample of a batch, with a length for each, as it did up to opset 8."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type == "Scan" and node.domain in ("", "ai.onnx"):
            raise UnsupportedModel(
                f"node {node.name or node.outputs[0].name!r} is a Scan of opset {LAST_OPSET_WITH_BATCHED_SCAN}, which "
                f"no later opset can say: export the model at opset 9 or later"
            )


def _import_domains(model: ir.Model) -> None:
    """Import what nodes are of: ONNX Runtime does not mind what a file forgets, as its own optimizer's files do."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain not in ("", "ai.onnx") and node.domain not in model.opset_imports:
            model.opset_imports[node.domain] = 1


def opset_of(model: ir.Model) -> int:
    """Return the version of `ai.onnx` that the model imports."""
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    return LATEST_OPSET if version is None else version


def to_opset(model: ir.Model) -> ir.Model:
    """Convert to `OPSET`; a later model stays where it is if it uses anything newer."""
    version = opset_of(model)
    if version == OPSET or (version > OPSET and not _fits(model, version, OPSET)):
        return model
    if version < OPSET and not _fits(model, version, OPSET):
        return _convert(model, OPSET)
    model.opset_imports[""] = OPSET
    model.graph.opset_imports[""] = OPSET
    return model


def _check_opset(model: ir.Model) -> None:
    version = opset_of(model)
    if not EARLIEST_OPSET <= version <= LATEST_OPSET:
        raise UnsupportedModel(
            f"the model imports opset {version} of ai.onnx; onnxsal reads {EARLIEST_OPSET} to {LATEST_OPSET}: export "
            f"it again at one of these"
        )


def _check_layout(graph: ir.Graph) -> None:
    """Refuse what ONNX Runtime has laid out for one machine's kernels."""
    blocked = [n for n in graph if n.domain == BLOCKED_LAYOUT]
    if blocked:
        raise UnsupportedModel(
            f"{len(blocked)} nodes are of {BLOCKED_LAYOUT}, such as {blocked[0].op_type} "
            f"{blocked[0].name or blocked[0].outputs[0].name!r}: ONNX Runtime writes this layout, for one kind of "
            f"machine, when it saves a model optimised at ENABLE_ALL; save it at ENABLE_BASIC, or explain the model "
            f"it was made from"
        )


def _fits(model: ir.Model, version: int, other: int) -> bool:
    """Tell whether every node means the same in both opsets, so that the number alone can change."""
    nodes = [n for n in ir.traversal.RecursiveGraphIterator(model.graph) if n.domain in ("", "ai.onnx")]
    return all(_same_meaning(node, version, other) for node in nodes)


def _same_meaning(node: ir.Node, version: int, other: int) -> bool:
    """Tell whether `node` is written alike in both opsets.

    From opset 22 on the versions of the old operators differ in the types they admit only, so going
    down it is enough that operator, attributes and types exist there. Only Mod without fmod admits floats
    from 28 on, by its text, not by its types.
    """
    try:
        here, there = (onnx.defs.get_schema(node.op_type, v, "") for v in (version, other))
    except onnx.defs.SchemaError:
        return False
    if here.since_version == there.since_version:
        return True
    if min(version, other) < OPSET or (node.op_type == "Mod" and not _is_fmod(node)):
        return False
    allowed = {c.type_param_str: c.allowed_type_strs for c in there.type_constraints}
    typed = [(v, there.inputs[min(i, len(there.inputs) - 1)]) for i, v in enumerate(node.inputs) if v is not None]
    return all(a in there.attributes for a in node.attributes) and all(
        v.type is None or p.type_str not in allowed or str(_spelled(v.type)) in allowed[p.type_str] for v, p in typed
    )


def _is_fmod(node: ir.Node) -> bool:
    return node.attributes.get_int("fmod", 0) == 1


def _spelled(kind: ir.TypeProtocol) -> str:
    names = {"float32": "float", "float64": "double"}
    return f"tensor({names.get(n := kind.dtype.numpy().name, n)})" if isinstance(kind, ir.TensorType) else repr(kind)


def _convert(model: ir.Model, version: int) -> ir.Model:
    """Run ONNX's own version converter, past operators that ONNX Runtime has before ONNX has them."""
    _put_aside(model)
    try:
        converted = through_proto(model, lambda proto: onnx.version_converter.convert_version(proto, version))
    except Exception as error:  # the converter raises RuntimeError, and nothing more specific
        raise UnsupportedModel(
            f"the model's opset {opset_of(model)} cannot be converted to {version}: {str(error).splitlines()[0]}; "
            f"export the model at opset 18 or later"
        ) from error
    _take_back(converted)
    # What the converter infers by the old opset is not right: what a Slice of opset 10 makes is as long as its input.
    for graph in converted.graphs():
        _forget_shapes(graph, converted)
    return converted


def _put_aside(model: ir.Model) -> None:
    """Move operators that the model's opset does not have to a domain which the converter leaves alone.

    Files that ONNX Runtime optimised have LayerNormalization at every opset.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain in ("", "ai.onnx") and not _is_defined(node.op_type, opset_of(model)):
            node.domain = ASIDE
            model.opset_imports[ASIDE] = model.graph.opset_imports[ASIDE] = 1


def _is_defined(op_type: str, version: int) -> bool:
    try:
        return bool(onnx.defs.get_schema(op_type, version, ""))
    except onnx.defs.SchemaError:
        return False


def _take_back(model: ir.Model) -> None:
    """Return what was put aside."""
    for imports in (model.opset_imports, model.graph.opset_imports):
        imports.pop(ASIDE, None)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == ASIDE:
            node.domain = ""


def through_proto(model: ir.Model, function: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """Pass the model, without its large weights, through a function on protobufs.

    Protobufs end at 2 GB; weights come back as the very tensors they were.
    """
    graph = model.graph
    weights = {n: v for n, v in graph.initializers.items() if is_big(v)}
    inputs = list(graph.inputs)
    for name, value in weights.items():
        type_as_its_tensor(value)
        del graph.initializers[name]
        if not value.is_graph_input():
            graph.inputs.append(value)
    proto = ir.to_proto(model)
    # Up to IR 3 the converter demands that initializers be inputs too; which are is restored below.
    proto.ir_version = max(proto.ir_version, 4)
    result = ir.from_proto(function(proto))
    result.ir_version = model.ir_version
    _restore_weights(result.graph, weights, [v.name for v in inputs])
    return result


def _read_small_weights(graph: ir.Graph) -> None:
    """Bring small external tensors into memory: where their file lies does not survive a pass through protobuf."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not is_big(value):
            value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)


def _restore_weights(graph: ir.Graph, weights: dict[str, ir.Value], inputs: list[str | None]) -> None:
    found = {v.name: v for v in graph.inputs}
    for name, weight in weights.items():
        value = found[name]
        value.const_value = weight.const_value
        if name not in inputs:
            graph.inputs.remove(value)
        graph.register_initializer(value)


def _infer_again(model: ir.Model) -> None:
    """Infer shapes where those inferred before were wrong."""
    for graph in model.graphs():
        _forget_shapes(graph, model)
    for value in model.graph.outputs:
        value.shape = None
    infer_shapes(model)


def _forget_shapes(graph: ir.Graph | ir.Function, model: ir.Model) -> None:
    """Drop what the file says of inner values: exporters leave stale shapes behind.

    Behind an operator that neither ONNX nor the file defines it stays: nothing better can be known.
    """
    outputs = set(graph.outputs)
    for node in graph:
        for body in subgraphs(node):
            # What a Loop counts with may be () or (1,), as its body says.
            for value in [*body.inputs[2 if node.op_type == "Loop" else 0 :], *body.outputs]:
                value.shape = None
        if node.domain not in ("", "ai.onnx") and node.op_identifier() not in model.functions:
            continue
        for value in node.outputs:
            if value not in outputs:
                value.type = value.shape = None


def _name_unknown_dims(graph: ir.Graph) -> None:
    """Give each unknown dimension of an input a name, so that inference can tell where it reappears.

    Paddle writes -1 for unknown, which inference would take for a number.
    """
    for value in [*graph.inputs, *graph.outputs]:
        shape = dims(value)
        if shape is None or value.is_initializer():
            continue
        known = [None if isinstance(d, int) and d < 0 else d for d in shape]
        if value.is_graph_input():
            known = [f"{value.name}_dim_{i}" if d is None else d for i, d in enumerate(known)]
        value.shape = ir.Shape(known)


def _spell_onesided(graph: ir.Graph) -> None:
    """Give each STFT its `onesided`: ONNX's inference counts frequencies as if 0, not 1, were the default."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type == "STFT" and node.domain == "" and "onesided" not in node.attributes:
            node.attributes["onesided"] = ir.AttrInt64("onesided", 1)


def _bypass_identity_on_initializers(graph: ir.Graph) -> None:
    """Let readers of Identity(initializer) read the initializer; TorchScript shares weights this way."""
    outputs = set(graph.outputs)
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Identity" and node.domain == "" else None
        if (
            source is not None
            and source.is_initializer()
            and not source.is_graph_input()
            and node.outputs[0] not in outputs
        ):
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            graph.remove(node, safe=True)
