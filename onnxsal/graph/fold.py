"""Compute once what is constant: exporters leave shape arithmetic, casts and fills of constants behind.

Shape inference knows constants only where they stand as initializers, so a Squeeze whose axes come
through a Cast of a constant would lose its rank.
"""

import math

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir

from onnxsal.graph.types import constant, static_shape

# Elements of an input or output; folding is for shapes, axes and scales, not for weights.
LARGEST = 4096
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def fold_constants(model: ir.Model) -> bool:
    """Replace small nodes all of whose inputs are constant by initializers, in place; tell whether any was."""
    folded = False
    for node in list(model.graph):
        arrays = _fold(node, model.opset_imports.get("", 0)) if _is_foldable(node) else None
        if arrays is None:
            continue
        folded = True
        for output, array in zip(node.outputs, arrays, strict=True):
            _become_initializer(model.graph, node, output, array)
        model.graph.remove(node)
    return folded


def _is_foldable(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in RANDOM or not all(v.name for v in node.outputs):
        return False
    if any(v.is_graph_output() for v in node.outputs):
        return False
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return False
    if node.op_type in ("Shape", "Size"):
        return node.inputs[0] is not None and static_shape(node.inputs[0]) is not None
    inputs = [v for v in node.inputs if v is not None]
    return bool(inputs) and all(_is_small_constant(v) for v in inputs)


def _is_small_constant(value: ir.Value) -> bool:
    return value.const_value is not None and not value.is_graph_input() and int(value.const_value.size) <= LARGEST


def _fold(node: ir.Node, opset: int) -> list[ir.TensorProtocol] | None:
    """Return the node's outputs, or None where the reference evaluator cannot, or they are large."""
    if node.op_type in ("Shape", "Size"):
        shape = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
        assert shape is not None
        if node.op_type == "Size":
            return [ir.tensor(math.prod(shape), dtype=ir.DataType.INT64)]
        end = node.attributes.get_int("end")
        return [ir.tensor(list(shape[node.attributes.get_int("start", 0) : end]), dtype=ir.DataType.INT64)]
    inputs = [v for v in node.inputs if v is not None]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [ir.serde.serialize_node(node)],
            "constant",
            [onnx.helper.make_value_info(str(v.name), onnx.TypeProto()) for v in inputs],
            [onnx.helper.make_value_info(str(v.name), onnx.TypeProto()) for v in node.outputs],
        ),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    try:
        arrays = onnx.reference.ReferenceEvaluator(proto).run(None, {str(v.name): constant(v) for v in inputs})
    except Exception:  # whatever the evaluator lacks stays a node, which ONNX Runtime computes
        return None
    found = [np.asarray(a) for a in arrays if hasattr(a, "dtype")]
    if len(found) < len(node.outputs) or any(a.size > LARGEST for a in found):
        return None
    return [ir.tensor(a) for a in found]


def _become_initializer(graph: ir.Graph, node: ir.Node, output: ir.Value, tensor: ir.TensorProtocol) -> None:
    name = output.name
    made = ir.Value(
        name=name,
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape([d for d in tensor.shape if isinstance(d, int)]),
    )
    ir.convenience.replace_all_uses_with(output, made)
    output.name = f"{name}_folded"
    tensor.name = name
    graph.register_initializer(made)
