"""Resize of opset 10 and before, after the conversion."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.errors import UnsupportedModel
from onnxsal.graph.canonical import canonicalise


def parsed(text, opset):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> agraph {text}')


def outputs(proto, x):
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", ["2,2", "1.6,2.7", "0.6,0.7", "1,0.5"])
@pytest.mark.parametrize(("opset", "op_type"), [(9, "Upsample"), (10, "Resize")])
def test_resize_gives_what_it_gave_before_it_had_modes(mode, scales, opset, op_type, rng):
    if op_type == "Upsample" and "0" in scales:
        pytest.skip("Upsample does not shrink")
    text = f'(float[1,2,7,8] x) => (float[] y) <float[4] s = {{1,1,{scales}}}> {{ y = {op_type}<mode="{mode}">(x, s) }}'
    model = parsed(text, opset)
    x = rng.standard_normal((1, 2, 7, 8)).astype(np.float32)
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    np.testing.assert_array_equal(outputs(converted, x), outputs(model, x))


def test_resize_that_enlarges_and_shrinks_is_refused():
    text = "(float[1,2,7,8] x) => (float[] y) <float[4] s = {1,1,2,0.7}> { y = Resize(x, s) }"
    with pytest.raises(UnsupportedModel, match="'y' resizes to the nearest entry by"):
        canonicalise(ir.from_proto(parsed(text, 10)))
