"""Bounds of Clip and values of Pad that opset 10 and before kept as attributes, in other types than float32."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise

TYPES = {"float16": np.float16, "double": np.float64}
PADS = ["{ y = Pad<pads=[1,0,0,2], value=1.5>(x) }", "{ h = Neg(x)  y = Pad<pads=[1,0,0,2]>(h) }"]
CLIPS = [
    "{ y = Clip<min=-0.5, max=0.5>(x) }",
    # One and the same bound on values of two types.
    "{ a = Clip<max=0.5>(x)  b = Cast<to=1>(x)  c = Clip<max=0.5>(b)  d = Cast<to=10>(c)  y = Add(a, d) }",
]


def outputs(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.mark.parametrize(
    ("dtype", "body"),
    # ONNX Runtime has no Clip of doubles at opset 9.
    [*(("float16", body) for body in PADS + CLIPS), *(("double", body) for body in PADS)],
)
def test_bound_has_the_type_of_what_it_bounds(dtype, body, rng):
    model = onnx.parser.parse_model(
        f'<ir_version: 4, opset_import: ["" : 9]> agraph ({dtype}[2,3] x) => ({dtype}[] y) {body}'
    )
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    onnx.checker.check_model(converted, full_check=True)
    x = rng.standard_normal((2, 3)).astype(TYPES[dtype])
    np.testing.assert_array_equal(*(outputs(m, x)[0] for m in (converted, model)), strict=True)
