"""Operators of a model that no gradient passes, and whether one that is wanted would have to."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsal.autodiff.node import formal_name, schema_of
from onnxsal.autodiff.path import find_path
from onnxsal.autodiff.registry import STANDARD, RuleBook
from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import opset_of
from onnxsal.graph.expansions import expand
from onnxsal.graph.find import find_value
from onnxsal.graph.types import has_gradient


@dataclass(frozen=True)
class Unsupported:
    """An operator without a rule.

    Attributes:
        operator: `domain::op`.
        nodes: Names of its nodes in canonical form; those of its first output where a node has none.
        on_path: Whether they lie between `wrt` and `of`, where a gradient has to pass.
    """

    operator: str
    nodes: tuple[str, ...]
    on_path: bool


def unsupported(
    model: ir.Model, *, of: Sequence[str], wrt: Sequence[str], rules: RuleBook = STANDARD
) -> list[Unsupported]:
    """Return the operators of a model whose gradient is not known, those on the path first.

    Args:
        model: In canonical form; it is left as it is.
        of: Names of the values that would be differentiated.
        wrt: Names of the values with respect to which.
        rules: The rule book.

    Returns:
        One entry per operator and side of the path; nodes of subgraphs count, where they are too.
    """
    model = model.clone()
    graph = model.graph
    op = Op(graph, opset_of(model), model.ir_version or 10)
    aside = {n: _name(n) for n in ir.traversal.RecursiveGraphIterator(graph) if _lacks_a_rule(op, n, rules)}
    path = find_path(op, [find_value(graph, name) for name in of], [find_value(graph, name) for name in wrt], rules)
    passed = {missing.node: missing.name for missing in path.missing}
    aside = {node: name for node, name in aside.items() if node not in passed}
    return [*_by_operator(passed, on_path=True), *_by_operator(aside, on_path=False)]


def _lacks_a_rule(op: Op, node: ir.Node, rules: RuleBook) -> bool:
    """Tell whether values that can carry a gradient enter, and nothing is known of any of them."""
    if rules.whole(node.domain, node.op_type) is not None or expand(node) is not None:
        return False
    schema = schema_of(op, node)
    formals = {formal_name(schema, i) for i, v in enumerate(node.inputs) if v is not None and has_gradient(v)}
    return bool(formals) and all(rules.lookup(node.domain, node.op_type, formal) is None for formal in formals)


def _by_operator(nodes: dict[ir.Node, str], *, on_path: bool) -> list[Unsupported]:
    found: dict[str, list[str]] = {}
    for node, name in nodes.items():
        found.setdefault(f"{node.domain or 'ai.onnx'}::{node.op_type}", []).append(name)
    return [Unsupported(operator, tuple(names), on_path) for operator, names in found.items()]


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or ""
