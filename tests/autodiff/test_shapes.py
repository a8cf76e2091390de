"""Sizes: a model that knows none of its own has the gradient of one that does; so have empty values, and scalars."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.derivatives import Case, random_feeds
from support.selection import some_of_each_operator

from onnxsal.autodiff import vjp
from onnxsal.errors import UnsupportedModel

LEVELS = (ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


def run(model: onnx.ModelProto, feeds: dict, names: list[str], level=LEVELS[0]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    typed = {
        k: np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for k, a in feeds.items()
    }
    return session.run(names, typed)


def without_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose inputs and outputs have names in the place of sizes, each one of its own."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for value in [*copy.graph.input, *copy.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_{axis}"
    return copy


def gradients(model: onnx.ModelProto, wrt: tuple[str, ...], feeds: dict, level=LEVELS[0]) -> list[np.ndarray]:
    graph = ir.to_proto(vjp(model, of=model.graph.output[0].name, wrt=wrt))
    onnx.checker.check_model(graph, full_check=True)
    return run(graph, feeds, [f"grad_{name}" for name in wrt], level)


def seeded(case: Case, model: onnx.ModelProto, rng: np.random.Generator) -> tuple[dict, tuple[str, ...]]:
    """Return feeds for the gradient, and what to differentiate with respect to."""
    feeds, y = random_feeds(case, rng), model.graph.output[0].name
    wrt = case.wrt or tuple(name for name, array in feeds.items() if array.dtype.kind == "f")
    feeds[f"cotangent_{y}"] = rng.standard_normal(run(model, feeds, [y])[0].shape)
    return feeds, wrt


@pytest.mark.parametrize("case", some_of_each_operator(3), ids=str)
def test_gradient_needs_no_size(case, rng):
    known = case.model(double=False)
    feeds, wrt = seeded(case, known, rng)
    expected = gradients(known, wrt, feeds)
    for level in LEVELS:
        for found, array in zip(gradients(without_sizes(known), wrt, feeds, level), expected, strict=True):
            assert found.shape == array.shape
            np.testing.assert_allclose(found, array, rtol=0, atol=2e-5 * (np.abs(array).max(initial=0) + 1e-3))


RANKLESS = {
    "{ a = Relu(x)  b = Sigmoid(a)  c = Mul(b, x)  d = Max(c, a)  y = Clip(d, , hi) }": None,
    "{ a = Identity(x)  b = LeakyRelu(a)  y = Softmax<axis=1>(b) }": None,
    "{ a = Abs(x)  b = MaxPool<kernel_shape=[2,2]>(a)  y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(b) }": None,
    "{ a = Relu(x)  y = Conv(a, w) }": None,
    "{ a = InstanceNormalization(x, s, s)  b = Relu(a)  y = ConvTranspose<strides=[2,2]>(b, t) }": None,
    "{ a = LRN<size=3>(x)  b = Transpose<perm=[0,2,3,1]>(a)  y = Sigmoid(b) }": None,
    "{ a = Relu(x)  y = LRN<size=3>(a) }": "a",
    "{ a = Relu(x)  y = Concat<axis=1>(a, a) }": "a",
    "{ a = Relu(x)  y = Gather<axis=1>(a, p) }": "a",
}


@pytest.mark.parametrize("body", RANKLESS)
def test_number_of_axes_is_not_needed_or_asked_for_in_one_line(body, rng):
    text = (
        f"(float[2,3,5,5] x) => (float[a,b,c,d] y) <float hi = {{0.5}}, int64[1] p = {{0}}, "
        f"float[3] s = {{1,2,1}}, float[3,1,2,2] t = {{1,0,2,1,1,0,1,3,2,1,0,1}}, "
        f"float[1,3,2,2] w = {{1,2,1,0,1,1,1,1,2,0,1,1}}> {body}"
    )
    known = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    unknown = onnx.ModelProto.FromString(known.SerializeToString())
    unknown.graph.input[0].type.tensor_type.ClearField("shape")
    unknown.graph.output[0].type.tensor_type.ClearField("shape")
    if RANKLESS[body]:
        with pytest.raises(
            UnsupportedModel, match=f"the number of axes of '{RANKLESS[body]}' is not known before the run"
        ):
            vjp(unknown, of="y", wrt="x")
        return
    feeds = {"x": rng.standard_normal((2, 3, 5, 5))}
    feeds["cotangent_y"] = rng.standard_normal(run(known, feeds, ["y"])[0].shape)
    (found,) = run(ir.to_proto(vjp(unknown, of="y", wrt="x")), feeds, ["grad_x"])
    np.testing.assert_allclose(found, gradients(known, ("x",), feeds)[0], rtol=1e-5, atol=1e-6)


# ----- None at all -----

CNN = """
    (float[n,4,9,9] x) => (float[n,3] y)
    <float[4,1,3,3] depthwise = {DEPTHWISE}, float[8,2,1,1] grouped = {GROUPED}, float[8,3] matrix = {MATRIX}> {
      a = Conv<group=4, strides=[2,2], pads=[1,1,1,1]>(x, depthwise)  b = Relu(a)
      c = MaxPool<kernel_shape=[3,3], strides=[2,2]>(b)  d = Conv<group=2>(c, grouped)  e = HardSwish(d)
      f = LRN<size=3>(e)  g = AveragePool<kernel_shape=[2,2]>(f)  h = GlobalAveragePool(g)  i = Flatten(h)
      j = Gemm(i, matrix)  y = Softmax(j)
    }
"""
for _name, _count in (("DEPTHWISE", 36), ("GROUPED", 16), ("MATRIX", 24)):
    CNN = CNN.replace(_name, ",".join(f"{0.1 * (i % 7) - 0.2:.1f}" for i in range(_count)))

EMPTY = {
    "a batch of no sample": (CNN, {"x": (0, 4, 9, 9)}),
    "a batch of some samples": (CNN, {"x": (2, 4, 9, 9)}),
    "tokens of no sample": (
        (
            "(float[n,5,8] x, float[8] s) => (float[n,5,8] y) <int64[4] heads = {0,5,2,4}, int64[3] back = {0,5,8}> "
            "{ a = LayerNormalization(x, s)  b = Reshape(a, heads)  c = Transpose<perm=[0,2,1,3]>(b) "
            "d = Transpose<perm=[0,2,3,1]>(b)  e = MatMul(c, d)  f = Softmax(e)  g = MatMul(f, c) "
            "h = Transpose<perm=[0,2,1,3]>(g)  i = Reshape(h, back)  y = Add(i, x) }"
        ),
        {"x": (0, 5, 8), "s": (8,)},
    ),
    "an empty part of a Concat": (
        "(float[a,3] x, float[b,3] z) => (float[c,3] y) { j = Concat<axis=0>(x, z, x)  y = Mul(j, j) }",
        {"x": (2, 3), "z": (0, 3)},
    ),
    "a Slice of nothing": (
        "(float[a,3] x) => (float[c,3] y) <int64[1] s = {1}> { e = Slice(x, s, s)  y = Concat<axis=0>(e, x) }",
        {"x": (2, 3)},
    ),
    "an empty part of a Split": (
        "(float[a,3] x) => (float[c,3] y) <int64[2] s = {0,2}> { e, r = Split(x, s)  y = Concat<axis=0>(r, e) }",
        {"x": (2, 3)},
    ),
    "no index": (
        "(float[a,3] x, int64[i] i) => (float[c,3] y) { e = Gather(x, i)  j = Concat<axis=0>(e, x)  y = Mul(j, j) }",
        {"x": (2, 3), "i": (0,)},
    ),
    "no region": (
        (
            "(float[1,2,6,6] x, float[r,4] rois, int64[r] batch) => (float[r,2,2,2] y) "
            "{ y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, rois, batch) }"
        ),
        {"x": (1, 2, 6, 6), "rois": (0, 4), "batch": (0,)},
    ),
    "a sum of nothing": (
        "(float[a,3] x, float[3] z) => (float[3] y) { s = ReduceSum<keepdims=0>(x)  y = Mul(z, s) }",
        {"x": (0, 3), "z": (3,)},
    ),
    "a mean over rows of nothing": (
        "(float[a,b] x) => (float[a,1] y) <int64[1] axis = {1}> { y = ReduceMean(x, axis) }",
        {"x": (0, 3)},
    ),
    "no row to broadcast": (
        "(float[a,3] x, float[1,3] z) => (float[a,3] y) { y = Mul(x, z) }",
        {"x": (0, 3), "z": (1, 3)},
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_gradient_of_and_beside_nothing_is_right(name, rng):
    text, sizes = EMPTY[name]
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    integers = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.INT64}
    feeds = {n: np.zeros(s, np.int64) if n in integers else rng.standard_normal(s) for n, s in sizes.items()}
    wrt = tuple(n for n in sizes if n not in integers)
    y = run(model, feeds, ["y"])[0]
    v, u, step = rng.standard_normal(y.shape), {n: rng.standard_normal(sizes[n]) for n in wrt}, 1e-2
    for level in LEVELS:
        found = gradients(model, wrt, feeds | {"cotangent_y": v}, level)
        assert [g.shape for g in found] == [sizes[n] for n in wrt]
        plus, minus = (
            np.float64(run(model, feeds | {n: feeds[n] + s * step * u[n] for n in wrt}, ["y"])[0]) for s in (1, -1)
        )
        analytic = sum(float(np.sum(g * u[n])) for n, g in zip(wrt, found, strict=True))
        assert analytic == pytest.approx(np.sum(v * (plus - minus)) / (2 * step), rel=1e-2, abs=1e-3)


# ----- Scalars -----


def elementwise_cases() -> list[Case]:
    """Return the cases of one node and one input of (2, 3), each element of which is a case of its own."""
    made = [c for c in some_of_each_operator(9) if c.text.startswith("(double[2,3] x) => (double[2,3] y) { y = ")]
    return [c for c in made if c.op_type not in {"Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization"}]


@pytest.mark.parametrize("case", elementwise_cases(), ids=str)
def test_scalar_has_the_gradient_of_an_element(case, rng):
    model = case.model(double=False)
    feeds, wrt = seeded(case, model, rng)
    (whole,) = gradients(model, wrt, feeds)
    scalar = case.text.replace("double[2,3]", "float")
    scalar_model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {case.opset}]> agraph {scalar}')
    (found,) = gradients(scalar_model, wrt, {name: array[0, 1] for name, array in feeds.items()})
    assert found.shape == ()
    np.testing.assert_allclose(found, whole[0, 1], rtol=1e-5, atol=1e-6)
