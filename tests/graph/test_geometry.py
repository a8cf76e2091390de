"""Geometry written out: the same numbers come out of ONNX Runtime as before."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise

HEADER = '<ir_version: 10, opset_import: ["" : 21]> agraph '


def canonical(text):
    return canonicalise(ir.from_proto(onnx.parser.parse_model(HEADER + text)))


def outputs(proto, feeds):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {k: v.astype(np.float32) for k, v in feeds.items()})[0]


@pytest.mark.parametrize(
    "node",
    [
        'Conv<auto_pad="SAME_UPPER",strides=[2,3]>(x, w)',
        'Conv<auto_pad="SAME_LOWER",strides=[2,1]>(x, w)',
        'Conv<auto_pad="VALID">(x, w)',
        'ConvTranspose<auto_pad="SAME_UPPER",strides=[2,1]>(x, w)',
        'ConvTranspose<auto_pad="SAME_LOWER",strides=[2,1]>(x, w)',
        'ConvTranspose<auto_pad="SAME_LOWER",strides=[2,2],output_padding=[1,0]>(x, w)',
        'ConvTranspose<auto_pad="VALID",strides=[2,2]>(x, w)',
        "ConvTranspose<strides=[2,2],output_shape=[14,17]>(x, w)",
        "ConvTranspose<strides=[2,2],output_shape=[16,15],pads=[1,1,1,1]>(x, w)",
        'ConvTranspose<auto_pad="SAME_UPPER",strides=[2,2],output_shape=[14,15]>(x, w)',
        'MaxPool<auto_pad="SAME_LOWER",kernel_shape=[3,2],strides=[2,2]>(x)',
        'AveragePool<auto_pad="SAME_UPPER",kernel_shape=[3,2],strides=[3,2]>(x)',
        'LpPool<auto_pad="SAME_UPPER",kernel_shape=[3,2],strides=[3,2]>(x)',
    ],
)
@pytest.mark.parametrize("sizes", ["1,2,7,8", "n,c,h,w"])
def test_written_out_geometry_computes_the_same(node, sizes, rng):
    inputs = f"float[{sizes}] x, float[2,2,3,2] w" if "w)" in node else f"float[{sizes}] x"
    text = f"({inputs}) => (float[] y) {{ y = {node} }}"
    feeds = {"x": rng.standard_normal((1, 2, 7, 8))}
    if "w)" in node:
        feeds["w"] = rng.standard_normal((2, 2, 3, 2))
    model = canonical(text)
    assert {"kernel_shape", "strides"} <= set(model.graph[0].attributes)
    if sizes[0] == "1":
        assert "pads" in model.graph[0].attributes
        assert not {"auto_pad", "output_shape"} & set(model.graph[0].attributes)
    expected = outputs(onnx.parser.parse_model(HEADER + text), feeds)
    np.testing.assert_array_equal(outputs(ir.to_proto(model), feeds), expected)


def test_a_convolution_says_everything():
    model = canonical("(float[1,2,7,8] x, float[4,2,3,1] w) => (float[] y) { y = Conv(x, w) }")
    said = {name: list(a.value) if name != "group" else a.value for name, a in model.graph[0].attributes.items()}
    assert said == {"kernel_shape": [3, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0]}


def test_a_kernel_of_unknown_size_leaves_kernel_shape_away():
    model = canonical("(float[1,2,7,8] x, float[m,2,k,l] w) => (float[] y) { y = Conv(x, w) }")
    assert set(model.graph[0].attributes) == {"strides", "dilations", "group", "pads"}


@pytest.mark.parametrize(
    ("node", "sizes"),
    [
        # ONNX's inference counts a last window that begins behind the input.
        ("MaxPool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,1,1],ceil_mode=1>(x)", [4, 5]),
        (
            "AveragePool<kernel_shape=[2,3],strides=[2,3],pads=[1,0,1,0],ceil_mode=1,count_include_pad=1>(x)",
            [4, 3],
        ),
        # It leaves the sizes out beside auto_pad.
        ('ConvTranspose<output_shape=[8,7],auto_pad="SAME_LOWER">(x, w)', [8, 7]),
        # It adds output_padding to what SAME makes.
        ('ConvTranspose<output_padding=[1,1],strides=[2,2],auto_pad="SAME_UPPER">(x, w)', [14, 16]),
        # It makes up for a kernel below the stride.
        ('ConvTranspose<strides=[4,3],auto_pad="SAME_UPPER">(x, w)', [27, 23]),
        # It pads for the dilated kernel.
        ('AveragePool<kernel_shape=[2,2],dilations=[2,2],auto_pad="SAME_UPPER">(x)', [6, 7]),
    ],
)
def test_sizes_are_those_of_onnx_runtime_where_inference_errs(node, sizes, rng):
    inputs = "float[1,2,7,8] x, float[2,2,3,2] w" if "w)" in node else "float[1,2,7,8] x"
    text = f"({inputs}) => (float[] z) {{ y = {node} z = Relu(y) }}"
    model = canonical(text)
    feeds = {"x": rng.standard_normal((1, 2, 7, 8)), "w": rng.standard_normal((2, 2, 3, 2))}
    made = outputs(onnx.parser.parse_model(HEADER + text), {k: v for k, v in feeds.items() if f"] {k}" in inputs})
    assert list(made.shape[2:]) == sizes
    assert [list(n.outputs[0].shape.numpy()) for n in model.graph] == [list(made.shape)] * 2
