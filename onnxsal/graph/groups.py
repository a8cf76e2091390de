"""Let GroupNormalization mean what it meant: up to opset 20 it had a scale and a bias per group, not per channel.

ONNX's version converter leaves them as they are, which no runtime takes then.
"""

import onnx_ir as ir

LAST_OPSET_WITH_GROUP_SCALES = 20


def spell_group_scales(graph: ir.Graph) -> None:
    """Write each GroupNormalization as an InstanceNormalization whose instances are the groups."""
    for node in list(ir.traversal.RecursiveGraphIterator(graph)):
        if node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx"):
            _spell(node)


def _spell(node: ir.Node) -> None:
    """Turn the node itself into the Reshape that ends it, so that its output stays."""
    home, (x, scale, bias), stem = node.graph, node.inputs, node.outputs[0].name
    assert home is not None
    groups = ir.tensor([0, node.attributes.get_int("num_groups", 1), -1], dtype=ir.DataType.INT64)
    epsilon = ir.AttrFloat32("epsilon", node.attributes.get_float("epsilon", 1e-5))
    wanted = ir.Node("", "Constant", [], [ir.AttrTensor("value", groups)], name=f"{stem}_groups")
    split = ir.Node("", "Reshape", [x, wanted.outputs[0]], name=f"{stem}_split")
    normal = ir.Node(
        "", "InstanceNormalization", [split.outputs[0], scale, bias], [epsilon], name=f"{stem}_split_normal"
    )
    shape = ir.Node("", "Shape", [x], name=f"{stem}_shape")
    for step in (wanted, split, normal, shape):
        step.outputs[0].name = step.name
        home.insert_before(node, step)
    node.op_type = "Reshape"
    node.attributes.clear()
    node.resize_inputs(2)
    node.replace_input_with(0, normal.outputs[0])
    node.replace_input_with(1, shape.outputs[0])
