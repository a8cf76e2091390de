"""GroupNormalization of opset 20 and before, after the conversion."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.autodiff import vjp
from onnxsal.graph.canonical import canonicalise


def outputs(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(names, feeds)


@pytest.mark.parametrize("settings", ["num_groups=2", "num_groups=3, epsilon=0.1"])
@pytest.mark.parametrize("sizes", ["5,3", "H,W", "7"])
def test_a_scale_per_group_gives_what_it_gave(settings, sizes, rng):
    groups = int(settings[len("num_groups=")])
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> agraph (float[N,6,{sizes}] x, float[{groups}] s, float[{groups}] b)'
        f" => (float[N,6,{sizes}] y) {{ h = GroupNormalization<{settings}>(x, s, b) y = Relu(h) }}"
    )
    x = rng.standard_normal((2, 6, *([7] if sizes == "7" else [5, 3]))).astype(np.float32)
    feeds = {"x": x, **{name: rng.standard_normal(groups).astype(np.float32) for name in "sb"}}
    converted = ir.to_proto(canonicalise(ir.from_proto(model)))
    (y,) = outputs(model, feeds, ["y"])
    np.testing.assert_allclose(outputs(converted, feeds, ["y"])[0], y, rtol=1e-5, atol=1e-6)
    grad = outputs(
        ir.to_proto(vjp(ir.from_proto(model), of="y", wrt="h")), feeds | {"cotangent_y": np.ones_like(y)}, ["grad_h"]
    )
    np.testing.assert_array_equal(grad[0], y > 0)
