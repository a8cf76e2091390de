"""Resize of opset 10 and before, after the conversion."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise


def parsed(text, opset):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> agraph {text}')


def outputs(proto, x):
    return run(proto.SerializeToString(), {"x": x})


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", ["2,2", "1.6,2.7", "0.6,0.7", "1,0.5", "2.3,0.7"])
@pytest.mark.parametrize(("opset", "op_type"), [(9, "Upsample"), (10, "Resize")])
def test_resize_gives_what_it_gave_before_it_had_modes(mode, scales, opset, op_type, rng):
    if op_type == "Upsample" and "0" in scales:
        pytest.skip("Upsample does not shrink")
    text = f'(float[1,2,7,8] x) => (float[] y) <float[4] s = {{1,1,{scales}}}> {{ y = {op_type}<mode="{mode}">(x, s) }}'
    model = parsed(text, opset)
    x = rng.standard_normal((1, 2, 7, 8)).astype(np.float32)
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    np.testing.assert_array_equal(outputs(converted, x), outputs(model, x))


@pytest.mark.parametrize("scales", [(2, 2.5), (0.5, 0.7), (1.6, 0.6)])
def test_resize_by_scales_that_only_the_run_knows_gives_what_it_gave(scales, rng):
    model = parsed("(float[1,2,7,8] x, float[4] s) => (float[] y) { y = Resize(x, s) }", 10)
    feeds = {"x": rng.standard_normal((1, 2, 7, 8)).astype(np.float32), "s": np.array([1, 1, *scales], np.float32)}
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    np.testing.assert_array_equal(*(run(m.SerializeToString(), feeds) for m in (converted, model)))


def run(model, feeds):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
