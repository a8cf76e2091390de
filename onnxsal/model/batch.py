"""Make a model that was exported for one image take several."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnxsal.graph.canonical import infer_shapes
from onnxsal.graph.types import constant, dims

Array = npt.NDArray[Any]


def make_batch_dynamic(model: ir.Model) -> ir.Model | None:
    """Return a copy whose batch of 1 is free, or None where the model has no such batch.

    A guess that has to be tried: `rows_agree` does. Constants that name the batch, in Reshape and
    Expand, are patched.
    """
    result = model.clone()
    graph = result.graph
    inputs = [v for v in graph.inputs if not v.is_initializer() and (dims(v) or (0,))[0] == 1]
    if not inputs:
        return None
    for value in inputs:
        value.shape = ir.Shape(["N", *(dims(value) or ())[1:]])
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs:  # still says 1, which inference would believe
            value.shape = None
    for node in graph:
        if node.op_type in ("Reshape", "Expand") and node.domain == "":
            _free_target(graph, node)
    infer_shapes(result)
    return result


def _free_target(graph: ir.Graph, node: ir.Node) -> None:
    """Let the leading 1 of a constant target shape follow the batch."""
    target = constant(node.inputs[1])
    if target is None or target.ndim != 1 or len(target) == 0 or target[0] != 1:
        return
    shape = target.copy()
    if node.op_type == "Reshape" and -1 not in shape:
        shape[0] = -1
    elif node.op_type == "Reshape":
        # 0 means "as before" here, whatever the exporter said: no dimension is zero.
        shape[0] = 0
        if 0 not in target[1:]:
            node.attributes.pop("allowzero", None)
    name = f"{node.inputs[1].name}_{node.name or node.outputs[0].name}_free"  # type: ignore[union-attr]
    tensor = ir.tensor(shape, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(shape.shape))
    graph.register_initializer(value)
    node.replace_input_with(1, value)


def rows_agree(
    run_batched: Callable[[Array], Sequence[Array]], run_single: Callable[[Array], Sequence[Array]], x: Array, *, rtol: float
) -> bool:
    """Tell whether running rows together gives each what it gives alone.

    Args:
        run_batched: Runs (N, ...) on the patched model.
        run_single: Runs (1, ...) on the original.
        x: The rows, (N, ...).
        rtol: Largest difference allowed, relative to the largest output.
    """
    together = run_batched(x)
    for i in range(len(x)):
        for whole, alone in zip(together, run_single(x[i : i + 1]), strict=True):
            if whole.shape[1:] != alone.shape[1:] or len(whole) != len(x):
                return False
            scale = max(float(np.abs(alone).max(initial=0)), 1e-6)
            if float(np.abs(whole[i] - alone[0]).max(initial=0)) > rtol * scale:
                return False
    return True
