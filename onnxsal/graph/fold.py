"""Compute once what is constant: exporters leave shape arithmetic, casts and fills of constants behind.

Shape inference knows constants only where they stand as initializers, so a Squeeze whose axes come
through a Cast of a constant would lose its rank.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.evaluation import evaluate
from onnxsal.graph.flow import subgraphs
from onnxsal.graph.types import constant, static_shape

# Elements of an input or output; folding is for shapes, axes and scales, not for weights.
LARGEST = 4096
# Of a quantised operator ONNX Runtime looks for the DequantizeLinear of its bias.
KEPT = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


class Folder:
    """Replaces small nodes all of whose inputs are constant by initializers."""

    def __init__(self, model: ir.Model) -> None:
        """Fold nodes of this model; what they become stands in the main graph."""
        self._graph = model.graph
        self._opset = model.opset_imports.get("", 0)
        self._computed: dict[Any, list[np.ndarray] | None] = {}

    def fold(self, node: ir.Node) -> list[ir.Value]:
        """Replace a node by initializers if it can be computed now, and return these."""
        tensors = self._compute(node) if _is_foldable(node) else None
        if tensors is None:
            return []
        made = [become_initializer(self._graph, v, t) for v, t in zip(node.outputs, tensors, strict=True)]
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        return made

    def _compute(self, node: ir.Node) -> list[ir.TensorProtocol] | None:
        """Return the node's outputs, or None where the reference evaluator cannot, or they are large."""
        if node.op_type in ("Shape", "Size"):
            return [_measure(node)]
        arrays = [constant(v) for v in node.inputs]
        contents = [None if a is None else (a.dtype, a.shape, a.tobytes()) for a in arrays]
        # Exporters write the same arithmetic for every layer.
        key = (node.op_type, repr(sorted(node.attributes.items())), len(node.outputs), *contents)
        if key not in self._computed:
            self._computed[key] = _evaluate(node, arrays, self._opset)
        found = self._computed[key]
        return None if found is None else [_tensor(a) for a in found]


def _is_foldable(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in KEPT or not all(v.name for v in node.outputs):
        return False
    if any(v.is_graph_output() for v in node.outputs):
        return False
    if subgraphs(node):
        return False
    if node.op_type in ("Shape", "Size"):
        return node.inputs[0] is not None and static_shape(node.inputs[0]) is not None
    # A few numbers can say how large an array to fill.
    if any((shape := static_shape(v)) is not None and math.prod(shape) > LARGEST for v in node.outputs):
        return False
    inputs = [v for v in node.inputs if v is not None]
    return bool(inputs) and all(_is_small_constant(v) for v in inputs)


def _is_small_constant(value: ir.Value) -> bool:
    return value.const_value is not None and not value.is_graph_input() and int(value.const_value.size) <= LARGEST


def _measure(node: ir.Node) -> ir.TensorProtocol:
    """Return what Shape or Size says."""
    shape = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
    assert shape is not None
    if node.op_type == "Size":
        return ir.tensor(math.prod(shape), dtype=ir.DataType.INT64)
    end = node.attributes.get_int("end")
    return ir.tensor(list(shape[node.attributes.get_int("start", 0) : end]), dtype=ir.DataType.INT64)


def _evaluate(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray] | None:
    found = evaluate(node, arrays, opset)  # what cannot be computed stays a node, which ONNX Runtime computes
    return None if found is None or any(a.size > LARGEST for a in found) else found


def _tensor(array: np.ndarray) -> ir.TensorProtocol:
    # What finds out what else it might be takes longer than most of these nodes.
    return ir.Tensor(array) if array.dtype.kind in "biuf" else ir.tensor(array)


def become_initializer(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    """Let the readers of a node's output read an initializer of its name instead, and return that."""
    name = value.name
    tensor.name = name
    shape = ir.Shape([d for d in tensor.shape if isinstance(d, int)])
    made = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
    value.name = f"{name}_computed"
    ir.convenience.replace_all_uses_with(value, made)
    graph.register_initializer(made)
    return made
