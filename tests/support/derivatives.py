"""Prove a rule by one number: ⟨v, J u⟩ by finite differences against ⟨Jᵀ v, u⟩ by the rule."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort

from onnxsal.autodiff import vjp
from onnxsal.autodiff.node import formal_name
from onnxsal.graph.canonical import canonicalise, opset_of
from onnxsal.graph.flow import read_values
from onnxsal.graph.quantisation import quantisation_of
from onnxsal.graph.types import has_gradient, is_float

EPSILON = 1e-6


@dataclass(frozen=True)
class Case:
    """A model of one operator, and where to differentiate it.

    Attributes:
        op_type: The operator under test.
        text: The model in ONNX's text syntax, in double; `(double[2,3] x) => (double[2,3] y) { y = Op(x) }`.
        wrt: Inputs to differentiate with respect to; None takes every float input.
        feeds: Values for inputs, where random numbers of a standard normal will not do.
        runtimes: Where the gradient graph runs: `reference` in double, `ort` in float32.
        numeric: Where the forward pass for the differences runs. ORT in float32 only for what is
            linear in its input (any step is exact then), where the reference evaluator is wrong; or in
            double, `ort double`, where it has such a kernel.
        step: Length of the difference, where the usual one will not do: the reference evaluator computes
            some functions in float32 whatever it is given.
        opset: The opset of the model.
        rtol: Tolerance of the comparison, where the usual one will not do; the note says why.
        note: What the case guards.
    """

    op_type: str
    text: str
    wrt: tuple[str, ...] | None = None
    feeds: dict = field(default_factory=dict, compare=False)
    runtimes: tuple[str, ...] = ("reference", "ort")
    numeric: str = "reference"
    step: float | None = None
    opset: int = 21
    rtol: float | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.op_type}-{self.note or self.text[self.text.index('{') :]}"

    def model(self, *, double: bool = True) -> onnx.ModelProto:
        text = self.text if double else self.text.replace("double", "float")
        classical = ', "ai.onnx.ml" : 5' if "ai.onnx.ml" in text else ""
        header = f'<ir_version: 10, opset_import: ["" : {self.opset}{classical}]> agraph '
        return onnx.parser.parse_model(header + text)


def case(op_type: str, text: str, **settings) -> Case:
    return Case(op_type, text, **settings)


def exercised_rules(case: Case) -> set[tuple[str, str, str]]:
    """Return the keys `(domain, operator, formal input)` of the inputs that depend on what the case differentiates."""
    model = canonicalise(ir.from_proto(case.model()))
    active = {v for v in model.graph.inputs if is_float(v) and (case.wrt is None or v.name in case.wrt)}
    found = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        schema = onnx.defs.get_schema(node.op_type, opset_of(model), node.domain)
        touched = [i for i, v in enumerate(node.inputs) if v in active]
        found |= {(node.domain, node.op_type, formal_name(schema, i)) for i in touched}
        if any(v in active for v in read_values(node)):
            active |= {v for v in node.outputs if has_gradient(v) or quantisation_of(v)}
    return found


def random_feeds(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    feeds = {}
    for value in case.model().graph.input:
        shape = [d.dim_value if d.HasField("dim_value") else 3 for d in value.type.tensor_type.shape.dim]
        given = case.feeds.get(value.name)
        feeds[value.name] = rng.standard_normal(shape) if given is None else np.asarray(given)
    return feeds


def directional_derivatives(
    case: Case, rng: np.random.Generator, target: str = "native"
) -> dict[str, tuple[float, float]]:
    """Return (analytic, numeric) by the name of the runtime that the gradient ran in."""
    model, feeds = case.model(), random_feeds(case, rng)
    wrt = case.wrt or tuple(n for n, a in feeds.items() if a.dtype.kind == "f")
    output = model.graph.output[0].name
    outputs = run(model, feeds, [output], case.numeric)[0]
    u = {n: rng.standard_normal(feeds[n].shape) for n in wrt}
    v = rng.standard_normal(outputs.shape)
    step = case.step or (0.5 if case.numeric == "ort" else EPSILON)
    plus, minus = (
        run(model, feeds | {n: feeds[n] + s * step * u[n] for n in wrt}, [output], case.numeric)[0] for s in (1, -1)
    )
    numeric = float(np.sum(v * (np.float64(plus) - np.float64(minus))) / (2 * step))
    found = {}
    for runtime in case.runtimes:
        double = runtime == "reference"
        graph = ir.to_proto(vjp(case.model(double=double), of=output, wrt=wrt, target=target))
        onnx.checker.check_model(graph, full_check=True)
        grads = run(graph, feeds | {f"cotangent_{output}": v}, [f"grad_{n}" for n in wrt], runtime)
        for n, g in zip(wrt, grads, strict=True):
            assert g.shape == feeds[n].shape, f"grad_{n} has shape {g.shape}, {n} has {feeds[n].shape}"
        found[runtime] = (float(sum(np.sum(g * u[n]) for n, g in zip(wrt, grads, strict=True))), numeric)
    return found


def run(model: onnx.ModelProto, feeds: dict, names: list[str], runtime: str) -> list[np.ndarray]:
    """Run in `reference` or `ort double` (double), or in `ort` (float32), whatever floats the feeds are in."""
    if runtime == "reference":
        return onnx.reference.ReferenceEvaluator(model).run(names, feeds)
    single = runtime == "ort"
    if single and any(i.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for i in model.graph.input):
        model = onnx.parser.parse_model(onnx.printer.to_text(model).replace("double", "float"))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtype = np.float32 if single else np.float64
    typed = {k: np.asarray(a, dtype) if a.dtype.kind == "f" else a for k, a in feeds.items()}
    return session.run(names, typed)
