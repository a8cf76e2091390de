"""Adjoints in phases, and what goes on phase by phase before they are interleaved: same gradient."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import vjp
from onnxsal.autodiff.rules import interleaved

# An inverted residual block with a stride, as MobileNetV2 has them.
TEXT = """<ir_version: 10, opset_import: ["" : 21]> agraph
(float[n,16,52,54] x, float[32,16,1,1] e, float[32,1,3,3] d, float lo, float hi) => (float[n,32,26,27] y) {
  c = Conv(x, e)  a = Clip(c, lo, hi)  y = Conv<group=32,strides=[2,2],pads=[1,1,1,1]>(a, d) }"""


HEAD = '<ir_version: 10, opset_import: ["" : 21]> agraph '
IN_BLOCKS = {
    "a first convolution": """(float[n,3,16,12] x, float[16,3,7,7] w) => (float[n,16,8,6] y)
        { y = Conv<strides=[2,2],pads=[3,3,3,3]>(x, w) }""",
    "one padded behind": """(float[n,3,16,12] x, float[16,3,3,4] w) => (float[n,16,8,6] y)
        { y = Conv<strides=[2,2],pads=[0,1,1,1]>(x, w) }""",
    "one of four channels": """(float[n,4,16,12] x, float[32,4,5,5] w) => (float[n,32,8,6] y)
        { y = Conv<strides=[2,2],pads=[2,2,2,2]>(x, w) }""",
    "one with unread rows": """(float[n,3,16,14] x, float[16,3,3,3] w) => (float[n,16,7,6] y)
        { y = Conv<strides=[2,2]>(x, w) }""",
    "one pixel of several": """(float[n,16,8,12] x, float[32,16,1,1] w) => (float[n,32,4,6] y)
        { y = Conv<strides=[2,2]>(x, w) }""",
    "one pixel of several, by row and column": """(float[n,16,8,12] x, float[32,16,1,1] w) => (float[n,32,4,4] y)
        { y = Conv<strides=[2,3]>(x, w) }""",
    "a stem, its phases left apart": """(float[n,3,208,216] x, float[16,3,7,7] w) => (float[n,16,52,54] y)
        { c = Conv<strides=[2,2],pads=[3,3,3,3]>(x, w)  a = Relu(c)
          y = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(a) }""",
    "a stem that no phases of phases fit": """(float[n,3,210,212] x, float[16,3,4,4] w) => (float[n,16,52,53] y)
        { c = Conv<strides=[2,2],pads=[1,1,0,0]>(x, w)  a = Relu(c)
          y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a) }""",
}


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_adjoints_in_blocks_equal_those_that_are_not(name, level, rng):
    model = onnx.parser.parse_model(HEAD + IN_BLOCKS[name])
    found = vjp(model, of="y", wrt="x")
    plain = vjp(model, of="y", wrt="x", target="gpu")
    shapes = {v.name: [d if isinstance(d, int) else 2 for d in v.shape] for v in found.graph.inputs}
    feeds = {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    grad, expected = (gradient(g, getattr(ort.GraphOptimizationLevel, level), **feeds) for g in (found, plain))
    assert_allclose(grad, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert "ConvTranspose" in {n.op_type for n in plain.graph}
    assert "ConvTranspose" not in {n.op_type for n in found.graph}


def block(rng: np.random.Generator, low: float) -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    given = {"lo": np.float32(low), "hi": np.float32(1.5)}
    while len(model.graph.input) > 1:
        value = model.graph.input.pop()
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = given.get(value.name, rng.standard_normal(shape).astype(np.float32))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    return model


def gradient(graph: ir.Model, level: ort.GraphOptimizationLevel, **feeds) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["grad_x"], feeds)[0]


@pytest.mark.parametrize("low", [0.0, -0.5])
@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_phases_are_interleaved_behind_the_mask_and_the_convolution(level, low, rng, monkeypatch):
    model = block(rng, low)
    early = vjp(model, of="y", wrt="x")
    monkeypatch.setattr(interleaved, "LARGE_MAP", 10**9)
    late = vjp(model, of="y", wrt="x")
    feeds = {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in (("x", (2, 16, 52, 54)), ("cotangent_y", (2, 32, 26, 27)))
    }
    level = getattr(ort.GraphOptimizationLevel, level)
    found, expected = (gradient(graph, level, **feeds) for graph in (early, late))
    assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    masked = {tuple(n.outputs[0].shape[2:]) for n in early.graph if n.op_type == "Mul"}
    assert masked == {(26, 27)}
