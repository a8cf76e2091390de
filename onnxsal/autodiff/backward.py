"""Graph to graph reverse-mode differentiation.

The walk prunes to the nodes between `wrt` and the seeds, looks up a rule for each of their inputs,
emits it, undoes broadcasting, and adds up what arrives at one value from several readers. What comes
out is ordinary graph.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from onnxsal.autodiff.broadcast import unbroadcast
from onnxsal.autodiff.node import NodeView, formal_name
from onnxsal.autodiff.primal import Primal
from onnxsal.autodiff.registry import ZERO, Cotangents, Rule, RuleBook
from onnxsal.errors import MissingRule, UnsupportedModel
from onnxsal.graph.builder import Op
from onnxsal.graph.flow import read_values


def differentiate(
    op: Op,
    seeds: Mapping[ir.Value, ir.Value],
    wrt: Sequence[ir.Value],
    rules: RuleBook,
    *,
    keep_half: bool = False,
) -> list[ir.Value | None]:
    """Emit the cotangents of `wrt`, given those of the values in `seeds`.

    Args:
        op: Writes to the graph that holds all these values.
        seeds: Cotangent by value.
        wrt: Float values of the main graph.
        rules: The rule book.
        keep_half: Compute half-precision gradients in half precision, not in float32.

    Returns:
        One cotangent per entry of `wrt`; None where nothing depends on it.

    Raises:
        MissingRule: Nodes on the way have no rule; the message lists them all.
    """
    path = find_path(op, list(seeds), wrt, rules)
    if path.missing:
        raise MissingRule(_describe(path.missing, wrt, seeds))
    walk = _Walk(op, rules, path, keep_half)
    for value, g in seeds.items():
        walk.add(value, g)
    for node in reversed(path.nodes):
        walk.visit(node)
    return [walk.total(value) for value in wrt]


@dataclass(frozen=True)
class Path:
    """What lies between `wrt` and the target.

    Attributes:
        nodes: In topological order.
        active: Values that depend on `wrt`.
        missing: Node and formal input of each rule that is wanted and absent.
    """

    nodes: list[ir.Node]
    active: set[ir.Value]
    missing: list[tuple[ir.Node, str]]


def find_path(op: Op, of: Sequence[ir.Value], wrt: Iterable[ir.Value], rules: RuleBook) -> Path:
    """Find the nodes that a gradient of `of` with respect to `wrt` passes."""
    primal = op.once(Primal)
    ancestors = _ancestors(primal, of)
    active, nodes = set(wrt), []
    missing: list[tuple[ir.Node, str]] = []
    for node in primal.nodes():
        if node not in ancestors:
            continue
        wanted = [(formal, _rule(primal, node, formal, active, rules)) for formal in _active_inputs(op, node, active)]
        if all(rule is ZERO for _, rule in wanted):
            continue
        nodes.append(node)
        missing += [(node, formal) for formal, rule in wanted if rule is None]
        active.update(primal.carried(node))
    return Path(nodes, active, missing)


def _rule(primal: Primal, node: ir.Node, formal: str, active: set[ir.Value], rules: RuleBook) -> Rule | None:
    """Return the rule of an input; None if there is none for what stands there."""
    rule = rules.lookup(node.domain, node.op_type, formal)
    integers = [v for v in node.inputs if v is not None and v in active and not primal.differentiates(node, v)]
    return None if integers and rule is not ZERO else rule


def _ancestors(primal: Primal, values: Sequence[ir.Value]) -> set[ir.Node]:
    """Return the nodes of the main graph that `values` are computed from."""
    found: set[ir.Node] = set()
    stack = [p for v in values if (p := primal.producer(v)) is not None]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        stack += [p for v in read_values(node) if (p := primal.producer(v)) is not None]
    return found


def _active_inputs(op: Op, node: ir.Node, active: set[ir.Value]) -> list[str]:
    """Return the formal names of the inputs that carry a gradient."""
    schema, carries = schema_of(op, node), op.once(Primal).carries
    formals = [
        formal_name(schema, i) for i, v in enumerate(node.inputs) if v is not None and v in active and carries(v)
    ]
    if any(v in active and v not in node.inputs for v in read_values(node)):
        formals.append("a value its subgraph reads")
    return list(dict.fromkeys(formals))


def schema_of(op: Op, node: ir.Node) -> onnx.defs.OpSchema | None:
    """Return the schema of a node's operator; None for operators that ONNX does not define."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, op.opset if not domain else 1, domain)
    except onnx.defs.SchemaError:
        return None


class _Walk:
    """Cotangents collected so far, by value."""

    def __init__(self, op: Op, rules: RuleBook, path: Path, keep_half: bool) -> None:
        self.op = op
        self.primal = op.once(Primal)
        self.rules = rules
        self.active = path.active
        self.keep_half = keep_half
        self.arrived: dict[ir.Value, list[ir.Value]] = {}

    def add(self, value: ir.Value, g: ir.Value) -> None:
        self.arrived.setdefault(value, []).append(g)

    def total(self, value: ir.Value) -> ir.Value | None:
        """Sum what arrived at a value, once all its readers have been visited."""
        parts = self.arrived.get(value)
        if parts is None:
            return None
        if len(parts) > 1:
            with self.op.scope(f"{self.rules.name}_{value.name}"):
                total = parts[0]
                for part in parts[1:]:
                    total = self.op.Add(total, part)
            self.arrived[value] = [total]
        return self.arrived[value][0]

    def visit(self, node: ir.Node) -> None:
        """Emit the cotangents of a node's active inputs."""
        cotangents = [self.total(self.primal.original(v)) for v in node.outputs]
        if all(g is None for g in cotangents):
            return
        with self.op.scope(f"{self.rules.name}_{node.name or node.outputs[0].name}"):
            view = NodeView(self.op, node, cotangents, keep_half=self.keep_half)
            g = self._upstream(node, view, cotangents)
            for formal in _active_inputs(self.op, node, self.active):
                rule = self.rules.lookup(node.domain, node.op_type, formal)
                assert rule is not None
                if rule is not ZERO:
                    self._apply(rule, node, view, formal, g)

    def _upstream(self, node: ir.Node, view: NodeView, cotangents: list[ir.Value | None]) -> ir.Value:
        """Return what the rule gets as `g`."""
        schema = schema_of(self.op, node)
        variadic = schema is not None and schema.outputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
        if variadic:
            return tuple(cotangents)  # type: ignore[return-value]
        if cotangents[0] is None and node.outputs[0].name:
            return self.op.zeros_like(view.outputs[0])
        # None, where the node leaves its first output out, as LSTM may: its rules ask for the others by name.
        return cotangents[0]  # type: ignore[return-value]

    def _apply(self, rule: Rule, node: ir.Node, view: NodeView, formal: str, g: ir.Value) -> None:
        result: Cotangents = rule(self.op, view, g)
        schema = schema_of(self.op, node)
        inputs = [v for i, v in enumerate(node.inputs) if formal_name(schema, i) == formal]
        parts = [result] if isinstance(result, ir.Value) or result is None else list(result)
        assert len(parts) == len(inputs), f"{node.op_type}: {len(parts)} cotangents for {len(inputs)} inputs {formal!r}"
        for value, part in zip(inputs, parts, strict=True):
            if part is not None and value is not None and value in self.active:
                self.add(value, self._settle(node, part, value))

    def _settle(self, node: ir.Node, g: ir.Value, primal: ir.Value) -> ir.Value:
        """Return a cotangent in its primal's shape, and say so on it."""
        if primal.dtype is None:
            raise UnsupportedModel(
                f"the type of {primal.name!r} is not known before the run, as behind operators that ONNX does not "
                f"define: write types into the file (python -m onnxruntime.tools.symbolic_shape_infer)"
            )
        g = unbroadcast(self.op, g, self.primal.shaped_like(primal), node.op_type)
        wanted = self.primal.gradient_type(primal, keep_half=self.keep_half)
        assert g.dtype == wanted, f"{node.op_type}: cotangent of {primal.name!r} is {g.dtype}, not {wanted}"
        if primal.shape is not None and not (g.is_graph_input() or g.is_initializer()):
            g.shape = primal.shape
        return g


def _describe(missing: list[tuple[ir.Node, str]], wrt: Sequence[ir.Value], seeds: Mapping[ir.Value, ir.Value]) -> str:
    lines = "; ".join(
        f"{n.domain or 'ai.onnx'}::{n.op_type}, input {formal!r}, node {n.name or n.outputs[0].name!r}"
        for n, formal in missing
    )
    last = missing[-1][0].outputs[0].name
    return (
        f"no vjp rule for {len(missing)} input(s) on the way from {', '.join(repr(v.name) for v in wrt)} to "
        f"{', '.join(repr(v.name) for v in seeds)}: {lines}; explain a layer after {last!r}, "
        f"or see CONTRIBUTING, 'Add a rule'"
    )
