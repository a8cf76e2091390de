"""Hardmax of opset 12 and before, after the conversion."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise


@pytest.mark.parametrize("axis", ["", "<axis=0>", "<axis=1>", "<axis=-1>", "<axis=-2>"])
@pytest.mark.parametrize("sizes", ["2,3,4", "a,b,c"])
def test_hardmax_sees_the_matrix_that_it_saw(axis, sizes, rng):
    model = onnx.parser.parse_model(
        f'<ir_version: 7, opset_import: ["" : 12]> agraph (float[{sizes}] x) => (float[{sizes}] y, int64[] y_shape) '
        f"{{ y_flatten = Mul(x, x)  y = Hardmax{axis}(y_flatten)  y_shape = Shape(y) }}"
    )
    feeds = {"x": rng.standard_normal((2, 3, 4)).astype(np.float32)}
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    onnx.checker.check_model(converted, full_check=True)
    before, after = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
        for m in (model, converted)
    )
    np.testing.assert_array_equal(after[0], before[0], strict=True)
    np.testing.assert_array_equal(after[1], before[1], strict=True)
