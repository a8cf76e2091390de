"""Compute what one node gives, before any run: in ONNX's reference evaluator."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


def evaluate(node: ir.Node, arrays: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray] | None:
    """Return the outputs of a standard node, or None where the evaluator cannot compute all of them.

    Args:
        node: The node; it holds no graphs.
        arrays: One for each of its inputs; None where it leaves one out.
        opset: Version of `ai.onnx` that the node is written in.
    """
    import onnx.reference  # 0.1 s, and a network without arithmetic on shapes needs none of it

    feeds = {str(v.name): a for v, a in zip(node.inputs, arrays, strict=True) if v is not None}
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [ir.serde.serialize_node(node)],
            "constant",
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds],
            [onnx.helper.make_value_info(str(v.name), onnx.TypeProto()) for v in node.outputs],
        ),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    try:
        outputs = onnx.reference.ReferenceEvaluator(proto).run(None, feeds)
    except Exception:  # it lacks kernels, and what those raise that it has is of any kind
        return None
    found = [np.asarray(a) for a in outputs if hasattr(a, "dtype")]
    return found if len(found) == len(node.outputs) else None
