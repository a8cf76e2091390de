"""Override rules for rectifiers: what guided backpropagation and DeconvNet do to the gradient.

They stand apart from the methods that mean them because rules need onnx_ir, which takes over a
second to import, and a compiled explanation runs without it.
"""

from typing import Any

from onnxsal.autodiff.node import NodeView
from onnxsal.autodiff.registry import STANDARD, Cotangents, Rule
from onnxsal.autodiff.rules.quantise import is_folded_relu
from onnxsal.graph.builder import Op

GUIDED = STANDARD.overlay("guided")
"""Backwards through a rectifier goes what is positive, times the rectifier's derivative."""

DECONVNET = STANDARD.overlay("deconvnet")
"""Backwards through a rectifier goes what is positive, wherever the forward signal was."""

RECTIFIERS = (("Relu", "X"), ("LeakyRelu", "X"), ("PRelu", "X"), ("Clip", "input"), ("QuantizeLinear", "x"))


def is_rectifier(node: NodeView) -> bool:
    """Tell whether a node is Relu, LeakyRelu, PRelu, or a Clip or a quantisation used as a ReLU: from 0 up."""
    if node.op_type == "QuantizeLinear":
        return bool(is_folded_relu(node))  # type: ignore[no-untyped-call]  # rules are not typed
    if node.op_type != "Clip":
        return node.op_type in {op_type for op_type, _ in RECTIFIERS}
    low, high = node.const("min"), node.const("max")
    return low is not None and float(low) == 0 and (high is None or float(high) > 0)


def _standard(node: NodeView, formal: str) -> Rule:
    rule = STANDARD.lookup("", node.op_type, formal)
    assert rule is not None
    return rule


def _guided(formal: str) -> Rule:
    def rule(op: Op, node: NodeView, g: Any) -> Cotangents:
        """The rectifier's own derivative, of what is positive."""
        return _standard(node, formal)(op, node, op.Relu(g) if is_rectifier(node) else g)

    return rule


def _deconvnet(formal: str) -> Rule:
    def rule(op: Op, node: NodeView, g: Any) -> Cotangents:
        """What is positive; the forward mask is not looked at."""
        return op.Relu(g) if is_rectifier(node) else _standard(node, formal)(op, node, g)

    return rule


for _op_type, _formal in RECTIFIERS:
    GUIDED.rule(_op_type, wrt=_formal)(_guided(_formal))
    DECONVNET.rule(_op_type, wrt=_formal)(_deconvnet(_formal))
