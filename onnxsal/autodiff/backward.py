"""Graph to graph reverse-mode differentiation.

The walk prunes to the nodes between `wrt` and the seeds, looks up a rule for each of their inputs,
emits it, undoes broadcasting, and adds up what arrives at one value from several readers. What comes
out is ordinary graph. The rule of a node that holds graphs calls the walk again, on a copy of them.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import onnx
import onnx_ir as ir

from onnxsal.autodiff.bodies import Request, Whole
from onnxsal.autodiff.broadcast import unbroadcast
from onnxsal.autodiff.narrow import Window, join, passes, window_of
from onnxsal.autodiff.node import NodeView, formal_name, schema_of
from onnxsal.autodiff.path import Missing, Path, active_inputs, active_reads, find_path, look_inside
from onnxsal.autodiff.primal import Primal
from onnxsal.autodiff.registry import SCATTER_FREE, STANDARD, ZERO, Cotangents, Rule, RuleBook
from onnxsal.errors import MissingRule, UnsupportedModel
from onnxsal.graph.builder import Op, rank
from onnxsal.graph.lists import add_lists
from onnxsal.graph.types import is_sequence


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
        op: Writes to the graph that holds the values in `seeds`.
        seeds: Cotangent by value.
        wrt: Float values of that graph or, if it is a body, of one around it.
        rules: The rule book.
        keep_half: Compute half-precision gradients in half precision, not in float32.

    Returns:
        One cotangent per entry of `wrt`; None where nothing depends on it.

    Raises:
        MissingRule: Nodes on the way have no rule; the message lists them all.
    """
    if op.runtime.spellings:
        rules = rules.onto(SCATTER_FREE, STANDARD)
    path = find_path(op, list(seeds), wrt, rules)
    if path.missing:
        raise MissingRule(_describe(path.missing, wrt, seeds))
    walk = _Walk(op, rules, path, keep_half)
    for value, g in seeds.items():
        walk.add(value, g)
    for node in reversed(path.nodes):
        walk.visit(node)
    return [walk.total(value) for value in wrt]


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
                total, *others = parts if is_sequence(parts[0]) else join(self.op, parts)
                for part in others:
                    total = self._add(total, part)
            self.arrived[value] = [total]
        return self.arrived[value][0]

    def _add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return add_lists(self.op, a, b) if is_sequence(a) else self.op.Add(a, b)

    def visit(self, node: ir.Node) -> None:
        """Emit the cotangents of a node's active inputs."""
        cotangents = [self.total(self.primal.original(v)) for v in node.outputs]
        if all(g is None for g in cotangents):
            return
        whole = self.rules.whole(node.domain, node.op_type)
        with self.op.scope(f"{self.rules.name}_{node.name or node.outputs[0].name}"):
            if whole is not None:
                self._visit_whole(whole, node, cotangents)
                return
            _check_ranks(node)
            window = self._window(node, cotangents)
            if window is not None:
                cut = partial(window.cut, self.op)
                view = NodeView(self.op, node, [window.core], keep_half=self.keep_half, cut=cut)
                self._apply_all(node, view, window.core, window)
                return
            view = NodeView(self.op, node, cotangents, keep_half=self.keep_half)
            self._apply_all(node, view, self._upstream(node, view, cotangents))

    def _window(self, node: ir.Node, cotangents: list[ir.Value | None]) -> Window | None:
        """Return where the cotangent of a node's output is not zero, if that is all that the rules need to see."""
        g = cotangents[0]
        window = None if g is None or is_sequence(g) else window_of(g)
        return window if window is not None and passes(node, window) else None

    def _apply_all(self, node: ir.Node, view: NodeView, g: ir.Value, window: Window | None = None) -> None:
        for formal in active_inputs(self.op, node, self.active):
            rule = self.rules.lookup(node.domain, node.op_type, formal)
            assert rule is not None
            if rule is not ZERO:
                self._apply(rule, node, view, formal, g, window)

    def _visit_whole(self, whole: Whole, node: ir.Node, cotangents: list[ir.Value | None]) -> None:
        """Emit the cotangents of all that a node and its bodies read."""
        of = {v for v, g in zip(node.outputs, cotangents, strict=True) if g is not None}
        inside = look_inside(self.op, node, whole.bodies(node), of, self.active, self.rules)
        walk = partial(differentiate, rules=self.rules, keep_half=self.keep_half)
        wanted = active_reads(self.op, node, self.active)
        for value, g in whole.vjp(self.op, Request(node, cotangents, wanted, inside, walk, self._gradient_type)):
            self.add(value, self._settle(node, g, value))

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

    def _apply(
        self,
        rule: Rule,
        node: ir.Node,
        view: NodeView,
        formal: str,
        g: ir.Value,
        window: Window | None = None,
    ) -> None:
        result: Cotangents = rule(self.op, view, g)
        schema = schema_of(self.op, node)
        inputs = [v for i, v in enumerate(node.inputs) if formal_name(schema, i) == formal]
        parts = [result] if isinstance(result, ir.Value) or result is None else list(result)
        assert len(parts) == len(inputs), f"{node.op_type}: {len(parts)} cotangents for {len(inputs)} inputs {formal!r}"
        for value, part in zip(inputs, parts, strict=True):
            if part is not None and value is not None and value in self.active:
                if window is not None:
                    part = self._widen(node, part, value, window)
                self.add(value, self._settle(node, part, value))

    def _widen(self, node: ir.Node, g: ir.Value, primal: ir.Value, window: Window) -> ir.Value:
        """Return the cotangent of a primal, given that of what of it lies in a window."""
        primal = self.primal.shaped_like(primal)
        g = unbroadcast(self.op, g, window.cut(self.op, primal), node.op_type)
        return window.widen(self.op, g, primal)

    def _settle(self, node: ir.Node, g: ir.Value, primal: ir.Value) -> ir.Value:
        """Return a cotangent in its primal's shape, and say so on it."""
        if primal.dtype is None:
            raise UnsupportedModel(
                f"the type of {primal.name!r} is not known before the run, as behind operators that ONNX does not "
                f"define: write types into the file (python -m onnxruntime.tools.symbolic_shape_infer)"
            )
        g = unbroadcast(self.op, g, self.primal.shaped_like(primal), node.op_type)
        wanted = self._gradient_type(primal)
        assert g.dtype == wanted, f"{node.op_type}: cotangent of {primal.name!r} is {g.dtype}, not {wanted}"
        holds = isinstance(primal.type, ir.OptionalType)
        if primal.shape is not None and not (holds or g.is_graph_input() or g.is_initializer()):
            g.shape = primal.shape
        return g

    def _gradient_type(self, value: ir.Value) -> ir.DataType:
        found = self.primal.gradient_type(value, keep_half=self.keep_half)
        assert found is not None
        return found


# Their rules count axes, and attributes are spelled out by the number of axes: known sizes may be missing, that not.
_RANKED = frozenset({"Conv", "ConvTranspose", "DeformConv", "LRN", "LSTM", "GRU", "RNN", "Concat", "Pad"})


def _check_ranks(node: ir.Node) -> None:
    """Refuse a node whose inputs have a number of axes that only the run knows, where the rules cannot do without."""
    if node.op_type in _RANKED:
        for value in node.inputs[:2]:
            if value is not None:
                rank(value)


def _describe(missing: Sequence[Missing], wrt: Sequence[ir.Value], seeds: Mapping[ir.Value, ir.Value]) -> str:
    last = missing[-1].outermost.outputs[0].name
    return (
        f"no vjp rule for {len(missing)} input(s) on the way from {', '.join(repr(v.name) for v in wrt)} to "
        f"{', '.join(repr(v.name) for v in seeds)}: {'; '.join(map(str, missing))}; explain a layer after {last!r}, "
        f"or see CONTRIBUTING, 'Add a rule'"
    )
