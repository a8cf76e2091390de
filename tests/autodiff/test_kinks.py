"""At a kink every rule takes PyTorch's side: exact values, at exactly the point."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_array_equal
from support.derivatives import run

from onnxsal.autodiff import vjp

INF = np.inf
TINY = 1e-30  # far below one, far above the smallest float
BEFORE_6 = np.nextafter(np.float32(6), np.float32(0))
BEFORE_1 = np.nextafter(np.float32(1), np.float32(0))

# A call, x, dy/dx. Measured on torch 2.13. Of clamp at its bounds (1 in 2.13, 0 in 2.15) we take the later, which
# relu6 and hardtanh have in both. Where all is -inf, logsumexp has NaN there, and 0 here. LpNormalization of zeros
# is zero and stays so, other than torch's normalize, which divides by 1e-12.
KINKS = [
    ("Relu(x)", [-1, -TINY, 0, TINY, 1], [0, 0, 0, 1, 1]),
    ("LeakyRelu<alpha=0.25>(x)", [-1, 0, TINY, 1], [0.25, 0.25, 1, 1]),
    ("LeakyRelu<alpha=-0.5>(x)", [-1, 0, 1], [-0.5, -0.5, 1]),
    ("PRelu(x, slope)", [-1, 0, TINY, 1], [0.25, 0.25, 1, 1]),
    ("ThresholdedRelu<alpha=1.0>(x)", [0.5, 1, 2], [0, 0, 1]),
    ("ThresholdedRelu<alpha=-1.0>(x)", [-2, -1, -0.5, 0], [0, 0, 1, 1]),
    ("Clip(x, zero, six)", [-1, 0, TINY, BEFORE_6, 6, 7, INF, -INF], [0, 0, 1, 1, 0, 0, 0, 0]),
    ("Clip(x, minus, one)", [-2, -1, -0.5, BEFORE_1, 1, 2], [0, 0, 1, 1, 0, 0]),
    ("Clip(x, zero)", [-1, 0, TINY, 1e30], [0, 0, 1, 1]),
    ("Clip(x, , one)", [-1e30, 0, 1, 2], [1, 1, 0, 0]),
    ("Clip(x, far, most)", [-1e30, 0, 1e30], [1, 1, 1]),
    ("Clip(x, small, huge)", [0, 1e-30, 1.5e-30, 1e29, 1e30, 2e30], [0, 0, 1, 1, 0, 0]),
    ("HardSigmoid<alpha=0.25, beta=0.5>(x)", [-3, -2, 0, 2, 3], [0, 0, 0.25, 0, 0]),
    ("Shrink<lambd=1.0>(x)", [-2, -1, 0, 1, 2], [1, 0, 0, 0, 1]),
    ("Shrink<lambd=1.0, bias=1.0>(x)", [-2, -1, 0, 1, 2], [1, 0, 0, 0, 1]),
    ("Elu(x)", [0, TINY, 1], [1, 1, 1]),
    ("Elu<alpha=0.5>(x)", [0, TINY, 1], [0.5, 1, 1]),
    ("Selu(x)", [0], [np.float32(1.0507009873554805) * np.float32(1.6732632423543772)]),
    ("Celu<alpha=0.5>(x)", [0, 1], [1, 1]),
    ("Softsign(x)", [0], [1]),
    ("Softplus(x)", [-200, 0, 100, 1e30], [0, 0.5, 1, 1]),
    ("Abs(x)", [-2, 0, 2], [-1, 0, 1]),
    ("Sign(x)", [-2, 0, 2], [0, 0, 0]),
    ("Sqrt(x)", [0, 0.25, 4], [INF, 1, 0.25]),
    ("Pow(x, zero)", [-1, 0, 2], [0, 0, 0]),
    ("Pow(x, one)", [-1, 0, 2], [1, 1, 1]),
    ("Pow(x, two)", [-1, 0, 2], [-2, 0, 4]),
    ("Pow(x, half)", [0, 0.25, 4], [INF, 1, 0.25]),
    ("Pow(x, minus)", [-2, 2], [-0.25, -0.25]),
    ("Pow(x, several)", [0, 0, 0, 0], [0, 1, 0, INF]),
    ("Pow(zero, x)", [0, 1, 2], [0, 0, 0]),
    ("Max(x, zero)", [-1, 0, 1], [0, 0.5, 1]),
    ("Min(x, one)", [0, 1, 2], [1, 0.5, 0]),
    ("Max(x, zero, zero)", [-1, 0, 1], [0, np.float32(1) / np.float32(3), 1]),
    ("ReduceMax(x)", [1, 3, 3, 2], [0, 0.5, 0.5, 0]),
    ("ReduceMin(x)", [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25]),
    ("ReduceL1(x)", [-2, 0, 2], [-1, 0, 1]),
    ("ReduceL2(x)", [0, 0], [0, 0]),
    ("ReduceL2(x)", [3, 0, 4], [np.float32(0.6), 0, np.float32(0.8)]),
    ("ReduceProd(x)", [2, 3, 4], [12, 8, 6]),
    ("ReduceProd(x)", [2, 0, 4], [0, 8, 0]),
    ("ReduceProd(x)", [0, 3, 0], [0, 0, 0]),
    ("ReduceLogSumExp(x)", [-INF, 0], [0, 1]),
    ("ReduceLogSumExp(x)", [-INF, -INF], [0, 0]),
    ("LpNormalization(x)", [0, 0], [0, 0]),
]
CONSTANTS = {
    "zero": 0, "one": 1, "two": 2, "six": 6, "half": 0.5, "minus": -1, "slope": 0.25,
    "far": -3.4028234663852886e38, "most": 3.4028234663852886e38, "small": 1e-30, "huge": 1e30,
}  # fmt: skip


def derivative(call, x):
    """Return dy/dx of a call on float32 x, summed over y."""
    constants = ", ".join(
        [*(f"float {name} = {{{value!r}}}" for name, value in CONSTANTS.items()), "float[4] several = {0, 1, 2, 0.5}"]
    )
    shape = "1" if call.startswith("Reduce") else "n"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[n] x) => (float[{shape}] y) <{constants}> {{ y = {call} }}'
    )
    x = np.array(x, np.float32)
    graph = ir.to_proto(vjp(model, of="y", wrt="x"))
    return run(graph, {"x": x, "cotangent_y": np.ones(1 if shape == "1" else x.shape)}, ["grad_x"], "ort")[0]


@pytest.mark.parametrize(("call", "x", "expected"), KINKS, ids=lambda v: v if isinstance(v, str) else "")
def test_derivative_at_kinks_is_that_of_torch(call, x, expected):
    assert_array_equal(derivative(call, x), np.array(expected, np.float32))


def test_hard_swish_has_its_left_derivative_at_minus_3_and_its_right_one_at_3():
    assert_array_equal(derivative("HardSwish(x)", [-4, -3, 3, 4]), np.float32([0, 0, 1, 1]))


def test_bounds_of_clip_get_what_they_replaced():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[n] x, float lo, float hi) => (float[n] y) '
        "{ y = Clip(x, lo, hi) }"
    )
    graph = ir.to_proto(vjp(model, of="y", wrt=["x", "lo", "hi"]))
    feeds = {"x": np.float32([-2, -1, 0, 1, 2]), "lo": np.float32(-1), "hi": np.float32(1)}
    found = run(graph, feeds | {"cotangent_y": np.float32([1, 2, 4, 8, 16])}, ["grad_x", "grad_lo", "grad_hi"], "ort")
    assert [g.tolist() for g in found] == [[0, 0, 4, 0, 0], 1, 16]


LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]


@pytest.mark.parametrize("level", LEVELS, ids=lambda v: v.name)
@pytest.mark.parametrize("high", [6, 1, 0.3, 100])
def test_clip_behind_a_convolution_passes_what_lies_between_its_bounds(high, level):
    ones = ", ".join(["1"] * 16)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[1,16,3,3] x) => (float[1,16,3,3] y) '
        f"<float[16,1,1,1] w = {{{ones}}}, float zero = {{0}}, float high = {{{high!r}}}> "
        "{ c = Conv<group=16>(x, w)  y = Clip(c, zero, high) }"
    )
    high = np.float32(high)
    points = [-1, 0, TINY, 1e-37, high / 2, np.nextafter(high, np.float32(0)), high, 2 * high, 1e30]
    x = np.tile(np.float32(points).reshape(1, 1, 3, 3), (1, 16, 1, 1))
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    graph = ir.to_proto(vjp(model, of="y", wrt="x"))
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": x, "cotangent_y": np.full_like(x, 3)}
    (found,) = session.run(["grad_x"], feeds)
    assert_array_equal(found, np.where((x > 0) & (x < high), np.float32(3), np.float32(0)))
