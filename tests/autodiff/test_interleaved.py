"""What takes entries one by one goes on phase by phase before phases are interleaved: same gradient."""

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
