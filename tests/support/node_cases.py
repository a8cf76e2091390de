"""onnx's own backend node tests as models to differentiate.

Each is a model of one operator, or of the function that defines it (`..._expanded`), with inputs and
what should come out. Sequences and optionals at a model's edge are made of tensors, and taken apart
into tensors, within the model: a gradient is asked of tensors.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper

from onnxsal.autodiff import STANDARD
from onnxsal.autodiff.node import formal_name
from onnxsal.autodiff.registry import ZERO, Undefined
from onnxsal.autodiff.support import REWRITTEN
from onnxsal.graph.canonical import LATEST_OPSET
from onnxsal.graph.flow import read_values
from onnxsal.graph.types import FLOATS, is_float

EARLIEST_OPSET = 7
EXPANDED = "_expanded"

# Halves are rounded at every step, in ONNX Runtime and in the expected outputs at different ones.
TOLERANCE = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 1e-3}
COARSE = 3e-2


@dataclass(frozen=True)
class NodeCase:
    """A backend node test whose edges are tensors.

    Attributes:
        name: onnx's name for it.
        operator: The operator it is about; of an expanded function, the one that the function defines.
        model: The model, at the opset in question.
        feeds: Inputs by name.
        expected: Outputs by name.
    """

    name: str
    operator: str
    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]

    def at(self, opset: int) -> "NodeCase":
        """Return the same case with another opset written on it, whatever the operators mean there."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for entry in model.opset_import:
            if entry.domain == "":
                entry.version = opset
        return NodeCase(self.name, self.operator, model, self.feeds, self.expected)

    def uses(self, op_type: str) -> bool:
        """Tell whether the case is about an operator, or has a node of it."""
        return op_type in (self.operator, *(n.op_type for n in self.model.graph.node))


@cache
def collect() -> list[NodeCase]:
    """Return all backend node tests whose inputs and outputs are tensors, or made of tensors."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases("")
    about = {c.name: c.model.graph.node[0].op_type for c in found if EXPANDED not in c.name}
    cases = []
    for test in found:
        operator = about.get(test.name.split(EXPANDED)[0], test.model.graph.node[0].op_type)
        case = _with_tensor_edges(test, operator)
        if case is not None:
            cases.append(case)
    return cases


def _with_tensor_edges(test, operator: str) -> NodeCase | None:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    inputs, outputs = test.data_sets[0]
    given = {v.name: a for v, a in zip(model.graph.input, inputs, strict=False)}
    wanted = {v.name: a for v, a in zip(model.graph.output, outputs, strict=False)}
    try:
        feeds, before = _make_inputs(model.graph, given)
        expected, after = _part_outputs(model.graph, wanted)
    except ValueError:
        return None
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return NodeCase(test.name, operator, model, feeds, expected)


def _make_inputs(graph: onnx.GraphProto, given: dict) -> tuple[dict[str, np.ndarray], list[onnx.NodeProto]]:
    """Replace each input that is no tensor by the tensors it holds; return all feeds, and the nodes that join them."""
    feeds: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    for value in list(graph.input):
        if value.type.HasField("tensor_type"):
            feeds[value.name] = _array(given[value.name])
            continue
        parts = [_array(a) for a in given[value.name]] if isinstance(given[value.name], list) else None
        graph.input.remove(value)
        if value.type.HasField("sequence_type") and parts:
            names = [f"{value.name}_{i}" for i in range(len(parts))]
            nodes.append(helper.make_node("SequenceConstruct", names, [value.name]))
        elif parts is None and value.type.HasField("optional_type") and given[value.name] is not None:
            names, parts = [f"{value.name}_0"], [_array(given[value.name])]
            nodes.append(helper.make_node("Optional", names, [value.name]))
        else:
            raise ValueError("an empty sequence or optional holds no tensor")
        for name, part in zip(names, parts, strict=True):
            graph.input.append(helper.make_tensor_value_info(name, _element_type(part), part.shape))
            feeds[name] = part
    return feeds, nodes


def _part_outputs(graph: onnx.GraphProto, wanted: dict) -> tuple[dict[str, np.ndarray], list[onnx.NodeProto]]:
    """Replace each output that is a sequence or an optional by the tensors it holds, as `_make_inputs` does."""
    expected: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    for value in list(graph.output):
        if value.type.HasField("tensor_type"):
            expected[value.name] = _array(wanted[value.name])
            continue
        graph.output.remove(value)
        sequence = value.name
        if value.type.HasField("optional_type"):
            sequence = f"{value.name}_element"
            nodes.append(helper.make_node("OptionalGetElement", [value.name], [sequence]))
        parts = wanted[value.name]
        if not isinstance(parts, list) or not parts:
            raise ValueError("an empty sequence or optional holds no tensor")
        for i, part in enumerate(map(_array, parts)):
            name = f"{value.name}_{i}"
            nodes.append(helper.make_node("Constant", [], [f"{name}_at"], value_int=i))
            nodes.append(helper.make_node("SequenceAt", [sequence, f"{name}_at"], [name]))
            graph.output.append(helper.make_tensor_value_info(name, _element_type(part), part.shape))
            expected[name] = part
    return expected, nodes


def _array(value) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _element_type(array: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


# ----- Which opset, and whether ONNX Runtime runs it -----


def runnable(case: NodeCase, opset: int | None) -> NodeCase | str:
    """Return the case at an opset where ONNX Runtime computes it, or why there is none.

    Without `opset` that is the one onnx wrote it at, or the latest before that. At any other than its own,
    a case counts only if what is expected comes out: then its operators mean the same there.
    """
    own = max((e.version for e in case.model.opset_import if e.domain == ""), default=LATEST_OPSET)
    reason = f"there is no opset of this model from {EARLIEST_OPSET} to {own}"
    for version in _versions(own) if opset is None else [opset]:
        candidate = case if version == own else case.at(version)
        try:
            onnx.checker.check_model(candidate.model)
            got = session(candidate.model).run(None, candidate.feeds)
        except Exception as error:  # ONNX Runtime's are of many kinds, and all say that it cannot
            reason = str(error).strip().splitlines()[0]
            continue
        if version == own or _as_expected(candidate, got):
            return candidate
        reason = f"means something else at opset {version}"
    return reason


def _versions(own: int) -> list[int]:
    return [own, *range(min(own - 1, LATEST_OPSET), 20, -1)] if own > LATEST_OPSET - 6 else [max(own, EARLIEST_OPSET)]


def _as_expected(case: NodeCase, got: list) -> bool:
    for a, b in zip(case.expected.values(), got, strict=True):
        tolerance = TOLERANCE.get(a.dtype, COARSE)
        if a.shape != np.shape(b) or a.dtype != b.dtype:
            return False
        if is_float_array(a) and not np.allclose(_wide(a), _wide(b), tolerance, tolerance, equal_nan=True):
            return False
        if not is_float_array(a) and not np.array_equal(a, b):
            return False
    return True


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Return a session on one thread of the CPU that keeps its warnings to itself."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    ort.set_default_logger_severity(4)  # some kernels warn past the session
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def is_float_array(array: np.ndarray) -> bool:
    """Tell whether an array is of a type that has gradients."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


# ----- Where a gradient could pass -----


@dataclass(frozen=True)
class FloatPath:
    """Inputs and outputs between which a cotangent can travel.

    Attributes:
        wrt: Float inputs that some float output depends on, through operators not declared zero.
        of: Those outputs.
        flat: Float inputs that float outputs depend on, but only through operators declared zero.
    """

    wrt: list[str]
    of: list[str]
    flat: list[str]


def float_path(case: NodeCase) -> FloatPath:
    """Find where a gradient could pass; an operator without a rule counts as passing it on."""
    model = ir.from_proto(_inferred(case.model))
    wrt, flat, of = [], [], set()
    for value in model.graph.inputs:
        if value.type is None or not is_float(value):
            continue
        reached = _reached(model, value, honour_zero=True)
        of |= reached
        if reached:
            wrt.append(value.name)
        elif _reached(model, value, honour_zero=False):
            flat.append(value.name)
    return FloatPath(wrt, [v.name for v in model.graph.outputs if v in of], flat)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model


def _reached(model: ir.Model, source: ir.Value, *, honour_zero: bool) -> set[ir.Value]:
    """Return the float outputs that depend on an input."""
    active = {source}
    for node in model.graph:
        if any(_passes(node, formal) or not honour_zero for formal in _touched(node, active, model)):
            active |= {v for v in node.outputs if _carries(v)}
    return {v for v in model.graph.outputs if v in active and is_float(v)}


def _touched(node: ir.Node, active: set[ir.Value], model: ir.Model) -> Iterator[str]:
    try:
        schema = onnx.defs.get_schema(node.op_type, model.opset_imports.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        schema = None
    yield from (formal_name(schema, i) for i, v in enumerate(node.inputs) if v in active)
    if any(v in active and v not in node.inputs for v in read_values(node)):
        yield "a value its subgraph reads"


def _passes(node: ir.Node, formal: str) -> bool:
    rule = STANDARD.lookup(node.domain, REWRITTEN.get(node.op_type, node.op_type), formal)
    return rule is not ZERO and not isinstance(rule, Undefined)


def _carries(value: ir.Value) -> bool:
    """Tell whether a value is a float tensor, or holds float tensors."""
    return value.dtype is None or value.dtype in FLOATS
