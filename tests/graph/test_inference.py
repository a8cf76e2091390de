import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsal.errors import ModelError
from onnxsal.graph.inference import infer_shapes
from onnxsal.graph.types import dims


def parse(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}'))


def test_values_of_branches_learn_their_shapes_too():
    model = parse(
        """(bool c, float[2,3] x) => (float[6] y) { s = Constant<value_ints = [6]>() y = If(c) <
            then_branch = g1 () => (float[6] a) { r = Relu(x) a = Reshape(r, s) },
            else_branch = g2 () => (float[6] b) { t = Transpose(x) b = Reshape(t, s) }> }"""
    )
    infer_shapes(model)
    shapes = {v.name: dims(v) for n in ir.traversal.RecursiveGraphIterator(model.graph) for v in n.outputs}
    assert shapes["r"] == (2, 3)
    assert shapes["t"] == (3, 2)


def test_bodies_read_axes_that_are_constants_outside():
    model = parse(
        """(float[2,3] x) => (z) <int64[1] axes = {1}> { z = Scan<num_scan_inputs=1,
            body = g (float[3] row) => (float[] r) { u = Unsqueeze(row, axes) r = Relu(u) }>(x) }"""
    )
    infer_shapes(model)
    assert dims(model.graph.outputs[0]) == (2, 3, 1)


def test_large_weights_are_not_read(tmp_path):
    model = parse("(float[2,1000] x) => (y) { y = MatMul(x, w) }")
    (node,) = model.graph
    absent = ir.ExternalTensor("absent", 0, 1000 * 5 * 4, ir.DataType.FLOAT, shape=ir.Shape([1000, 5]), name="w")
    weight = ir.Value(name="w", const_value=absent)
    model.graph.register_initializer(weight)
    ir.convenience.replace_all_uses_with(node.inputs[1], weight)
    infer_shapes(model)
    assert dims(node.outputs[0]) == (2, 5)


def test_what_onnx_infers_nothing_for_keeps_its_first_input_s_shape():
    model = parse("(float[N,4,8] x, float[4] s, float[4] b) => (y) { y = GroupNormalization<num_groups=2>(x, s, b) }")
    infer_shapes(model)
    assert dims(model.graph.outputs[0]) == ("N", 4, 8)


def test_types_that_do_not_fit_are_an_error_of_the_model():
    model = parse("(float[2] x, int64[2] i) => (y) { y = Add(x, i) }")
    with pytest.raises(ModelError, match="not valid ONNX"):
        infer_shapes(model)


def test_the_model_s_own_nodes_and_initializers_stay_as_they_are():
    model = parse("(float[2,3] x) => (y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    model.graph.initializers["big"] = ir.Value(name="big", const_value=ir.Tensor(np.zeros((50, 60), np.float32)))
    names, nodes = list(model.graph.initializers), list(model.graph)
    infer_shapes(model)
    assert list(model.graph.initializers) == names
    assert list(model.graph) == nodes
    assert [v.name for v in model.graph.inputs] == ["x"]
