"""Write out operators that ONNX defines by others, where that loses nothing.

These have no kernel in ONNX Runtime, which writes them out as well; what they consist of is smooth.
Operators with kernels stay: they are faster, and some written out are another function (Softplus
overflows, and the slope of Relu at 0 is a half).
"""

from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnxsal.graph.inference import infer_shapes
from onnxsal.graph.types import type_proto

EXPANDED = frozenset({"CausalConvWithState", "LinearAttention", "SwiGLU"})
DOMAIN = "onnxsal.functions"


def expand_functions(model: ir.Model, opset: int) -> None:
    """Write out those operators, wherever they stand; not where ONNX needs sizes for that which are not known."""
    nodes = [n for n in ir.traversal.RecursiveGraphIterator(model.graph) if n.domain == "" and n.op_type in EXPANDED]
    if not nodes:
        return
    infer_shapes(model)  # how they are written out depends on types
    for number, node in enumerate(nodes):
        function = _definition(node, opset)
        if function.output:
            function.domain, function.name = DOMAIN, f"{node.op_type}_{number}"
            made = ir.serde.deserialize_function(function)
            model.functions[made.identifier()] = made
            node.domain, node.op_type = function.domain, function.name
    model.opset_imports[DOMAIN] = 1
    common.InlinePass()(model)
    model.opset_imports.pop(DOMAIN)


def _definition(node: ir.Node, opset: int) -> onnx.FunctionProto:
    """Return the function that ONNX defines a node by."""
    schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # the stub lacks what is asked of it here
    if schema.has_function:
        found = schema.function_body.SerializeToString()
    else:
        types = [b"" if v is None else type_proto(v).SerializeToString() for v in node.inputs]
        found = schema.get_context_dependent_function(ir.serde.serialize_node(node).SerializeToString(), types)
    function = onnx.FunctionProto()
    function.ParseFromString(found)
    return function
