"""Find what lies between `wrt` and the target, within the bodies of control flow too."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsal.autodiff.bodies import Body, Inside
from onnxsal.autodiff.node import formal_name, schema_of
from onnxsal.autodiff.primal import Primal
from onnxsal.autodiff.registry import ZERO, Rule, RuleBook, Undefined
from onnxsal.graph.builder import Op
from onnxsal.graph.flow import captured, read_values


@dataclass(frozen=True)
class Missing:
    """A rule that is wanted and absent, or stands for what has no gradient.

    Attributes:
        node: The node.
        formal: The input that carries the gradient.
        name: What users call the node.
        why: Why there is no gradient, if that is declared.
        within: The nodes and their attributes whose bodies hold the node, innermost first; empty in the main graph.
    """

    node: ir.Node
    formal: str
    name: str
    why: str = ""
    within: tuple[tuple[ir.Node, str], ...] = ()

    def __str__(self) -> str:
        node = self.node
        name = f"{node.domain or 'ai.onnx'}::{node.op_type}, input {self.formal!r}, node {self.name!r}"
        name += f" ({self.why})" if self.why else ""
        return " in ".join([name, *(f"the {body} of {outer.op_type} {_name(outer)!r}" for outer, body in self.within)])

    @property
    def outermost(self) -> ir.Node:
        """The node of the main graph that is it, or holds it."""
        return self.within[-1][0] if self.within else self.node


@dataclass
class Path:
    """What lies between `wrt` and the target.

    Attributes:
        nodes: Those of the graph itself, in topological order.
        inner: Those of bodies within.
        active: Values that depend on `wrt`.
        missing: The rules that are wanted and absent.
    """

    active: set[ir.Value]
    nodes: list[ir.Node] = field(default_factory=list)
    inner: list[ir.Node] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def find_path(op: Op, of: Sequence[ir.Value], wrt: Iterable[ir.Value], rules: RuleBook) -> Path:
    """Find the nodes that a gradient of `of` with respect to `wrt` passes."""
    return _Search(rules).through(op, of, set(wrt))


def find_sources(
    op: Op, of: Sequence[ir.Value], wrt: Sequence[ir.Value], rules: RuleBook
) -> dict[ir.Value, set[ir.Value]]:
    """Return for each value that `of` is computed from which of `wrt` a gradient of it reaches, in one walk for all."""
    return _Search(rules).sources(op, of, wrt)


def look_inside(
    op: Op, node: ir.Node, bodies: Iterable[Body], of: Set[ir.Value], active: Set[ir.Value], rules: RuleBook
) -> list[Inside]:
    """Tell what a gradient of outputs `of` of a node passes in its bodies."""
    search = _Search(rules)
    return [search.through_body(op, node, body, of, active)[0] for body in bodies]


def active_inputs(op: Op, node: ir.Node, active: Set[ir.Value]) -> list[str]:
    """Return the formal names of the inputs that carry a gradient."""
    schema, carries = schema_of(op, node), op.once(Primal).carries
    formals = [
        formal_name(schema, i) for i, v in enumerate(node.inputs) if v is not None and v in active and carries(v)
    ]
    if any(v in active and v not in node.inputs for v in read_values(node)):
        formals.append("a value its subgraph reads")
    return list(dict.fromkeys(formals))


def active_reads(op: Op, node: ir.Node, active: Set[ir.Value]) -> list[ir.Value]:
    """Return the values that carry a gradient, among those that a node and its bodies read, each once."""
    read = dict.fromkeys([*(v for v in node.inputs if v is not None), *captured(node)])
    return [v for v in read if v in active and op.once(Primal).carries(v)]


class _Search:
    """Walks forward from `wrt`, over what the target is computed from."""

    def __init__(self, rules: RuleBook) -> None:
        self.rules = rules
        self.within: tuple[tuple[ir.Node, str], ...] = ()

    def through(self, op: Op, of: Iterable[ir.Value], active: set[ir.Value]) -> Path:
        """Search the graph that `op` writes; what is active in the graphs around it is active here."""
        path, (needed, nodes), primal = Path(active), needed_for(op, of), op.once(Primal)
        for node in primal.nodes():
            if node in nodes:
                self._pass_node(op, node, path, needed)
        return path

    def sources(self, op: Op, of: Iterable[ir.Value], wrt: Sequence[ir.Value]) -> dict[ir.Value, set[ir.Value]]:
        """Return what is active behind each of `wrt`, the other way round; an input at a time, as each passes alone."""
        (needed, nodes), primal = needed_for(op, of), op.once(Primal)
        bits = {value: 1 << i for i, value in enumerate(wrt)}
        for node in primal.nodes():
            for value in dict.fromkeys(read_values(node)) if node in nodes else ():
                path = Path({value})
                if bits.get(value):
                    self._pass_node(op, node, path, needed)
                for reached in path.active - {value}:
                    bits[reached] = bits.get(reached, 0) | bits[value]
        return {value: {w for i, w in enumerate(wrt) if held >> i & 1} for value, held in bits.items()}

    def _pass_node(self, op: Op, node: ir.Node, path: Path, needed: Set[ir.Value]) -> None:
        if self.rules.whole(node.domain, node.op_type) is not None:
            self._pass_whole(op, node, path, needed)
        else:
            self._pass(op, node, path)

    def _pass(self, op: Op, node: ir.Node, path: Path) -> None:
        formals = active_inputs(op, node, path.active)
        wanted = [(formal, self._rule(op, node, formal, path.active)) for formal in formals]
        if all(rule is ZERO for _, rule in wanted):
            return
        path.nodes.append(node)
        path.missing += [
            self._missing(op, node, formal, rule.why if isinstance(rule, Undefined) else "")
            for formal, rule in wanted
            if rule is None or isinstance(rule, Undefined)
        ]
        path.active.update(op.once(Primal).carried(node))

    def _rule(self, op: Op, node: ir.Node, formal: str, active: Set[ir.Value]) -> Rule | None:
        """Return the rule of an input; None if there is none for what stands there."""
        rule = self.rules.lookup(node.domain, node.op_type, formal)
        given = [v for v in node.inputs if v is not None and v in active]
        integers = any(not op.once(Primal).differentiates(node, v) for v in given)
        return None if integers and rule is not ZERO else rule

    def _missing(self, op: Op, node: ir.Node, formal: str, why: str = "") -> Missing:
        return Missing(node, formal, op.once(Primal).name(node), why, self.within)

    def _pass_whole(self, op: Op, node: ir.Node, path: Path, needed: Set[ir.Value]) -> None:
        whole, carries = self.rules.whole(node.domain, node.op_type), op.once(Primal).carries
        if whole is None or not active_reads(op, node, path.active):
            return
        reached: set[ir.Value] = set()
        for body in whole.bodies(node):
            inside, found = self.through_body(op, node, body, needed, path.active)
            path.inner += [*found.nodes, *found.inner]
            path.missing += found.missing
            alive = found.active | inside.active | {o for o, i in body.carries if i in inside.active}
            reached |= {outer for inner, outer in body.leaves if inner in alive}
        if any(v in needed and not carries(v) for v in reached):
            path.missing.append(self._missing(op, node, "the scale of a quantised value that it returns"))
        if reached:
            path.nodes.append(node)
            path.active |= {v for v in reached if carries(v)}

    def through_body(
        self, op: Op, node: ir.Node, body: Body, of: Set[ir.Value], active: Set[ir.Value]
    ) -> tuple[Inside, Path]:
        """Search a body as often as it takes until what is carried round brings nothing new."""
        inner, carries = op.within(body.graph), op.once(Primal).carries
        outputs = _useful_outputs(inner, body, of)
        inputs = {i for outer, i in body.enters if outer in active and carries(i)}
        outside, self.within = self.within, ((node, body.name), *self.within)
        while True:
            path = self.through(inner, outputs, {*active, *inputs})
            more = {i for o, i in body.carries if o in path.active and o in outputs and carries(i)} - inputs
            if not more:
                break
            inputs |= more
        self.within = outside
        return Inside(body, frozenset(inputs), frozenset(outputs)), path


def _useful_outputs(inner: Op, body: Body, of: Set[ir.Value]) -> set[ir.Value]:
    """Return the body outputs that count for the node outputs `of`, in this turn or through a later one."""
    outputs = {value for value, outer in body.leaves if outer in of}
    while True:
        needed, _ = needed_for(inner, outputs)
        more = {o for o, i in body.carries if i in needed} - outputs
        if not more:
            return outputs
        outputs |= more


def needed_for(op: Op, values: Iterable[ir.Value]) -> tuple[set[ir.Value], set[ir.Node]]:
    """Return `values` and all that they are computed from, and the nodes that do so."""
    found: set[ir.Value] = set()
    nodes: set[ir.Node] = set()
    stack, primal = list(values), op.once(Primal)
    while stack:
        value = stack.pop()
        if value in found:
            continue
        found.add(value)
        node = primal.producer(value)
        if node is not None and node not in nodes:
            nodes.add(node)
            stack += read_values(node)
    return found, nodes


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or ""
