"""Remove what no output needs."""

import onnx_ir as ir
from onnx_ir.passes import common


def prune(model: ir.Model) -> None:
    """Drop nodes and initializers that no graph output needs, in place. Graph inputs stay."""
    common.RemoveUnusedNodesPass()(model)
