"""GELU written out is one operator in canonical form, and nothing that only looks like it is."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[n,5] x) => (float[n,5] y) {{ {body} }}'
CONSTANTS = """r = Constant<value_float=1.4142135>() i = Constant<value_float=0.70710677>()
  one = Constant<value_float=1.0>() h = Constant<value_float=0.5>() """
ERF = "d = Div(x, r) e = Erf(d) a = Add(e, one) "
WRITTEN_OUT = {
    "half last": ERF + "m = Mul(x, a) y = Mul(m, h)",
    "half first": ERF + "m = Mul(x, h) y = Mul(m, a)",
    "half of the error function": ERF + "m = Mul(h, a) y = Mul(x, m)",
    "multiplied": "d = Mul(i, x) e = Erf(d) a = Add(one, e) m = Mul(a, x) y = Mul(h, m)",
}
OTHERWISE = {
    "no half": ERF + "y = Mul(x, a)",
    "another scale": "d = Div(x, one) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, h)",
    "another factor": ERF + "z = Neg(x) m = Mul(z, a) y = Mul(m, h)",
    "another summand": "d = Div(x, r) e = Erf(d) a = Add(e, h) m = Mul(x, a) y = Mul(m, h)",
    "a part that is read elsewhere": ERF + "m = Mul(x, a) z = Mul(m, h) y = Add(z, e)",
}


def canonical(body: str) -> tuple[onnx.ModelProto, ir.Model]:
    model = onnx.parser.parse_model(HEAD.format(body=CONSTANTS + body))
    return model, canonicalise(ir.from_proto(model))


def scores(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("body", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_gelu_written_out_is_one_operator(body, rng):
    before, after = canonical(body)
    assert after.graph.outputs[0].producer().op_type == "Gelu"
    x = np.float32(3 * rng.standard_normal((4, 5)))
    np.testing.assert_allclose(scores(ir.to_proto(after), x), scores(before, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("body", OTHERWISE.values(), ids=OTHERWISE)
def test_what_only_looks_like_gelu_stays(body, rng):
    before, after = canonical(body)
    assert "Gelu" not in {n.op_type for n in after.graph}
    x = np.float32(rng.standard_normal((4, 5)))
    np.testing.assert_array_equal(scores(ir.to_proto(after), x), scores(before, x))


def test_gelu_in_double_stays_written_out():
    model = onnx.parser.parse_model(
        HEAD.format(
            body=CONSTANTS.replace("value_float=", "value=double {").replace(">", "}>")
            + ERF
            + "m = Mul(x, a) y = Mul(m, h)"
        ).replace("float[", "double[")
    )
    assert "Gelu" not in {n.op_type for n in canonicalise(ir.from_proto(model)).graph}
