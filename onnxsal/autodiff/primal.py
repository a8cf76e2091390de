"""The forward pass as the walk sees it: composite operators as what they compute, integers as real numbers.

An operator of ONNX Runtime's own, or one on quantised numbers, keeps running as the file has it. Beside
it stands its expansion in standard float operators, its twin: the walk passes the twin in the operator's
place, and whatever it reads of the twin's output is read of the operator's own. What of a twin no
rule reads, which is nearly all of it, is pruned.
"""

from collections.abc import Iterator

import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.expansions import expand
from onnxsal.graph.geometry import WINDOWED, spell_out
from onnxsal.graph.quantisation import PASSING, Quantisation, fused_into, quantisation_of, real
from onnxsal.graph.types import FLOATS, HALVES, has_gradient

# Of their outputs only the first depends on the input as numbers do: a scale follows from the largest and
# smallest entry, and changing it moves no more than the rounding.
_FIRST_OUTPUT_ONLY = frozenset({"DynamicQuantizeLinear"})
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


class Primal:
    """What the walk has to know of a graph beside its nodes. One per graph: `op.once(Primal)`."""

    def __init__(self, op: Op) -> None:
        """Write the twins of the graph's composite operators behind it."""
        self._op = op
        self._twins: dict[ir.Node, list[ir.Node]] = {}
        self._twin_of: dict[ir.Value, ir.Value] = {}
        self._original_of: dict[ir.Value, ir.Value] = {}
        self._origin: dict[ir.Node, ir.Node] = {}
        self._spared: set[ir.Node] = set()
        for node in list(op.graph):
            self._write_twin(node)

    def _write_twin(self, node: ir.Node) -> None:
        expanded = expand(node)
        if expanded is None:
            return
        for weight in expanded.weights:
            weight.name = self._op.fresh(weight.name or "const")
            self._op.hold(weight)
        for output, twin in zip(node.outputs, expanded.outputs, strict=True):
            if twin is not None:
                self._twin_of[output], self._original_of[twin] = twin, output
        for made in expanded.nodes:
            if made.op_type in WINDOWED:
                spell_out(made)
            self._read_originals(made)
            self._op.adopt(made)
            self._origin[made] = node
        self._twins[node] = expanded.nodes

    def _read_originals(self, made: ir.Node) -> None:
        """Let a node of a twin read the operator's own outputs too: cotangents arrive there."""
        for i, value in enumerate(made.inputs):
            if value is not None and value in self._original_of:
                made.replace_input_with(i, self._original_of[value])

    # ----- Order -----

    def nodes(self) -> Iterator[ir.Node]:
        """Yield the nodes in topological order, twins in the place of what they stand for."""
        for node in self._op.graph:
            if node not in self._origin:
                yield from self._twins.get(node, [node])

    def producer(self, value: ir.Value) -> ir.Node | None:
        """Return the node that makes a value; its twin's, where it has one."""
        return self._twin_of.get(value, value).producer()

    def original(self, value: ir.Value) -> ir.Value:
        """Return the value that the forward pass has in the place of a twin's output; any other as it is."""
        return self._original_of.get(value, value)

    def name(self, node: ir.Node) -> str:
        """Return what users call a node: the name of what it stands for, or that of its first output."""
        node = self._origin.get(node, node)
        return node.name or node.outputs[0].name or ""

    # ----- The end -----

    def spare(self, value: ir.Value) -> None:
        """Let the quantisations that a score ends with clip nothing: one that saturates has its reasons, too."""
        node = self.producer(value)
        while node is not None:
            if node.op_type == "QuantizeLinear":
                self._spared.add(node)
            elif node.op_type not in PASSING | _QUANTISERS and not _adds_constant(node):
                return
            moving = [v for v in node.inputs if v is not None and not _is_weight(v)]
            node = self.producer(moving[0]) if moving else None

    def is_spared(self, node: ir.Node) -> bool:
        """Tell whether a quantisation is one of those."""
        return node in self._spared

    # ----- Values -----

    def quantisation(self, value: ir.Value) -> Quantisation | None:
        """Return how a value stands for real numbers; None if it does not."""
        return quantisation_of(self.original(value))

    def carries(self, value: ir.Value) -> bool:
        """Tell whether a value has a gradient: floats, sequences of them, and integers that stand for real numbers."""
        if has_gradient(value):
            return True
        return isinstance(value.type, ir.TensorType) and self.quantisation(value) is not None

    def carried(self, node: ir.Node) -> list[ir.Value]:
        """Return the outputs of a node that have gradients, each as the forward pass has it."""
        outputs = node.outputs[:1] if node.op_type in _FIRST_OUTPUT_ONLY else node.outputs
        return [self.original(v) for v in outputs if self.carries(v)]

    def differentiates(self, node: ir.Node, value: ir.Value) -> bool:
        """Tell whether the rules of an operator, which are for floats, hold for this input, too."""
        return value.dtype is None or value.dtype in FLOATS or node.op_type in PASSING | _QUANTISERS

    def gradient_type(self, value: ir.Value, *, keep_half: bool = False) -> ir.DataType | None:
        """Return the type that a value's gradient is computed in; None if that of the value is not known."""
        if value.dtype is None or (value.dtype in FLOATS and (keep_half or value.dtype not in HALVES)):
            return value.dtype
        return ir.DataType.FLOAT

    def read(self, value: ir.Value) -> ir.Value:
        """Return a value's real numbers, as the forward pass has them."""
        return real(self._op, value, self.original)

    def shaped_like(self, value: ir.Value) -> ir.Value:
        """Return a value of the same shape that may be read without disturbing what ONNX Runtime fuses."""
        value = self.original(value)
        quantised = fused_into(value)
        return value if quantised is None else self.original(quantised)


def _adds_constant(node: ir.Node) -> bool:
    return node.op_type == "Add" and any(v is not None and _is_weight(v) for v in node.inputs)


def _is_weight(value: ir.Value) -> bool:
    """Tell whether a value is constant, perhaps decoded."""
    if value.const_value is not None:
        return True
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return False
    return node.inputs[0].const_value is not None
