"""Where the classes are: the output, the logits behind its activation, and the average that CAM needs."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.follow import canonical, run

from onnxsal.errors import CardError
from onnxsal.graph.canonical import canonicalise
from onnxsal.model.heads import Head, find_head
from onnxsal.model.pooling import Gap


def head_of(text: str, output: str | None = None, **settings) -> Head:
    return find_head(canonical(text, **settings), output)


CONSTANTS = """
<float[4,3,3,3] w, float[4,5] m, float[5] bias, float[5,4,1,1] point, float[4] scale, float[144,5] all,
 int64[1] k = {1}, int64[1] h = {2}, int64[1] l = {3}, int64[2] hw = {2,3},
 int64[2] row = {0,5}, int64[4] wide = {0,5,1,1}, int64[3] cells = {0,4,36},
 float cells_number = {36.0}, float two = {2.0}, float low = {0.0}, float high = {6.0}>"""
FEATURES = f"(float[N,3,8,8] x) => (float[N,5] y) {CONSTANTS} {{ f = Conv(x, w) "
LOGITS = FEATURES + "g = GlobalAveragePool(f) v = Flatten(g) z = MatMul(v, m) "


# ----- The activation -----


@pytest.mark.parametrize(
    ("nodes", "kind", "logits", "probabilities"),
    [
        ("y = Identity(z)", None, "y", None),
        ("y = Softmax(z)", "softmax", "z", "y"),
        ("y = LogSoftmax<axis=1>(z)", "log-softmax", "z", None),
        ("y = Sigmoid(z)", "sigmoid", "z", "y"),
        ("a = Reshape(z, wide) p = Softmax<axis=1>(a) y = Squeeze(p, hw)", "softmax", "a", "p"),
        ("a = Reshape(z, row) p = Softmax(a) b = Identity(p) y = Cast<to=1>(b)", "softmax", "a", "p"),
        (
            "a = Unsqueeze(z, h) b = Transpose<perm=[0,2,1]>(a) p = Softmax<axis=2>(b) y = Squeeze(p, k)",
            "softmax",
            "b",
            "p",
        ),
        ("e = Exp(z) s = ReduceSum(e, k) y = Div(e, s)", "softmax", "z", "y"),
        ("t = ReduceMax(z, k) d = Sub(z, t) e = Exp(d) s = ReduceSum(e, k) y = Div(e, s)", "softmax", "z", "y"),
        ("e = Exp(z) s = ReduceSum(e, k) r = Reciprocal(s) y = Mul(e, r)", "softmax", "z", "y"),
        ("s = ReduceLogSumExp(z, k) y = Sub(z, s)", "log-softmax", "z", None),
        # A softmax over the samples is none over the classes; nor is a sum of something else.
        ("y = Softmax<axis=0>(z)", None, "y", None),
        ("e = Exp(z) o = Tanh(z) s = ReduceSum(o, k) y = Div(e, s)", None, "y", None),
        ("e = Exp(z) o = Exp(e) y = Div(e, o)", None, "y", None),
        ("y = Softmax(z) other = Relu(y)", "softmax", "z", "y"),
    ],
)
def test_logits_are_found_behind_the_activation(nodes, kind, logits, probabilities):
    found = head_of(LOGITS + nodes + "}")
    assert (found.output, found.activation, found.probabilities, found.classes) == ("y", kind, probabilities, 5)
    assert found.logits == logits


def test_an_old_softmax_is_found_through_what_the_converter_makes_of_it():
    text = FEATURES.replace("float[N,5] y", "float[N,4,1,1] y") + "g = GlobalAveragePool(f) y = Softmax<axis=1>(g) }"
    found = head_of(text, opset=11)
    assert (found.activation, found.logits, found.class_axis, found.output_class_axis) == ("softmax", "g", 1, 1)
    assert found.gap == Gap("g", "f")


def test_classes_may_stand_on_the_last_axis():
    text = (FEATURES + "g = GlobalAveragePool(f) t = Transpose<perm=[0,2,3,1]>(g) y = Softmax<axis=3>(t) }").replace(
        "float[N,5] y", "float[N,1,1,4] y"
    )
    found = head_of(text)
    assert (found.output_class_axis, found.class_axis, found.logits, found.classes) == (3, 3, "t", 4)


# ----- The output -----


def test_the_first_output_of_floats_with_several_classes_is_taken():
    text = f"""(float[N,3,8,8] x) => (int64[N,1] best, float[N,1] score, float[N,4,6,6] f, float[N,5] y, float[N,4] v)
    {CONSTANTS} {{
      f = Conv(x, w) g = GlobalAveragePool(f) v = Flatten(g) y = MatMul(v, m)
      best = ArgMax<axis=1>(y) score = ReduceMax(y, k) }}"""
    assert head_of(text).output == "y"
    assert head_of(text, "v").output == "v"
    assert head_of(text, "v").gap == Gap("g", "f")
    assert head_of(text, "score").classes == 1
    with pytest.raises(CardError, match=r"the card names 'z' as the class output.*'best', 'score', 'f', 'y', 'v'"):
        head_of(text, "z")
    assert "'best' is (N, 1)" in head_of(text, "best").reason


def test_features_that_the_scores_are_computed_from_are_not_the_classes():
    text = f"""(float[N,3,8,8] x) => (float[N,4] v, float[N,1] score, float[N,5] y, float[N,5] p)
    {CONSTANTS} {{
      f = Conv(x, w) g = GlobalAveragePool(f) v = Flatten(g) y = MatMul(v, m)
      p = Softmax(y) score = ReduceMax(y, k) }}"""
    assert (head_of(text).output, head_of(text).activation) == ("y", None)
    assert head_of(text, "v").output == "v"


def test_what_a_topk_has_sorted_has_no_classes():
    text = (LOGITS + "y, at = TopK(z, l) }").replace("float[N,5] y", "float[N,3] y, int64[N,3] at")
    assert head_of(text).reason.endswith("'y' is (N, 3), sorted by TopK, 'at' is (N, 3), sorted by TopK")
    beside = text.replace("int64[N,3] at", "int64[N,3] at, float[N,5] z")
    assert head_of(beside).output == "z"


def test_a_quantised_output_says_what_a_step_is_worth():
    text = (
        (LOGITS + "p = Softmax(z) y = QuantizeLinear(p, step, zero) }")
        .replace("float[N,5] y", "uint8[N,5] y")
        .replace("<float[4", "<float step = {0.25}, uint8 zero = {0}, float[4")
    )
    found = head_of(text)
    assert (found.output_scale, found.activation, found.logits, found.probabilities) == (0.25, "softmax", "z", "p")


def test_the_logits_of_a_quantised_output_are_floats():
    text = (
        (LOGITS + "y = QuantizeLinear(z, step, zero) }")
        .replace("float[N,5] y", "int8[N,5] y")
        .replace("<float[4", "<float step = {0.5}, int8 zero = {0}, float[4")
    )
    found = head_of(text)
    assert (found.output, found.logits, found.output_scale, found.activation) == ("y", "z", 0.5, None)


def test_scores_per_pixel_are_classes_where_there_are_no_others():
    found = head_of(
        "(float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> { z = Conv(x, w) y = Softmax<axis=1>(z) }"
    )
    assert (found.logits, found.class_axis, found.classes, found.activation) == ("z", 1, 4, "softmax")
    last = head_of("(float[N,8,8,3] x) => (float[N,8,8,3] y) { y = Sigmoid(x) }")
    assert (last.class_axis, last.classes) == (3, 3)


def test_boxes_are_no_classes():
    found = head_of("(float[N,3,8,8] x) => (float[N,3,64] y) <int64[3] s = {0,3,64}> { y = Reshape(x, s) }")
    assert (found.output, found.logits, found.gap) == (None, None, None)
    assert found.reason == "no output has one score per class and sample, (N, K): 'y' is (N, 3, 64)"


def test_how_many_classes_there_are_may_be_open():
    found = head_of("(float[N,3,8,8] x, float[192,K] w) => (float[N,K] y) { f = Flatten(x) y = MatMul(f, w) }")
    assert (found.output, found.classes) == ("y", None)


# ----- The average -----

POOLS = {
    "GlobalAveragePool": "g = GlobalAveragePool(f) v = Flatten(g)",
    "ReduceMean": "g = ReduceMean<keepdims=0>(f, hw) v = Identity(g)",
    "ReduceMean that keeps its axes": "g = ReduceMean(f, hw) v = Squeeze(g, hw)",
    "two ReduceMeans": "p = ReduceMean<keepdims=0>(f, l) g = ReduceMean<keepdims=0>(p, h) v = Dropout(g)",
    "two ReduceMeans that keep": "p = ReduceMean(f, l) g = ReduceMean(p, h) v = Flatten(g)",
    "AveragePool": "g = AveragePool<kernel_shape=[6,6]>(f) v = Flatten(g)",
    "AveragePool over a border": "g = AveragePool<kernel_shape=[7,7], pads=[0,0,1,1]>(f) v = Flatten(g)",
    "ReduceSum, divided": "p = ReduceSum<keepdims=0>(f, hw) g = Div(p, cells_number) v = Identity(g)",
    "ReduceSum": "g = ReduceSum<keepdims=0>(f, hw) v = Mul(g, scale)",
}
LINEAR = {
    "MatMul": "y = MatMul(v, m)",
    "Gemm": "y = Gemm(v, m, bias)",
    "MatMul and Add": "a = MatMul(v, m) y = Add(bias, a)",
    "scaled": "a = Sub(v, scale) b = Div(a, two) c = MatMul(b, m) y = Mul(two, c)",
    "Conv": "a = Unsqueeze(v, hw) b = Conv(a, point) y = Flatten(b)",
    "BatchNormalization": "a = BatchNormalization(v, scale, scale, scale, scale) y = MatMul(a, m)",
}


@pytest.mark.parametrize("linear", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_the_average_is_found_behind_what_is_linear(pool, linear):
    assert head_of(FEATURES + pool + " " + linear + "}").gap == Gap("g", "f")


def test_a_map_of_scores_that_is_averaged_at_once_is_such_a_head():
    text = FEATURES.replace("float[N,5] y", "float[N,4] y") + "r = Relu(f) g = GlobalAveragePool(r) y = Flatten(g) }"
    assert head_of(text).gap == Gap("g", "r")


def test_tokens_that_are_averaged_are_such_a_head():
    text = (
        FEATURES
        + "c = Reshape(f, cells) t = Transpose<perm=[0,2,1]>(c) g = ReduceMean<keepdims=0>(t, k) y = MatMul(g, m) }"
    )
    assert head_of(text).gap == Gap("g", "t")


def test_quantised_values_on_the_way_do_not_matter():
    text = (
        (
            FEATURES
            + """g = GlobalAveragePool(f)
        q = QuantizeLinear(g, step, zero) r = Reshape(q, wide) d = DequantizeLinear(r, step, zero)
        weight = DequantizeLinear(stored, step, zero) c = Conv(d, weight) y = Flatten(c) }"""
        )
        .replace("<float[4", "<float step = {0.25}, uint8 zero = {128}, uint8[5,4,1,1] stored, float[4")
        .replace("wide = {0,5,1,1}", "wide = {0,4,1,1}")
    )
    assert head_of(text).gap == Gap("g", "f")
    rectified = head_of(text.replace("zero = {128}", "zero = {0}"))
    assert rectified.gap is None
    assert rectified.gap_reason == "QuantizeLinear 'q' lies between the pooling 'g' and the logits 'y'"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            "g = GlobalAveragePool(f) v = Flatten(g) z = MatMul(v, m) [relu] y = Relu(z)",
            "Relu 'relu' lies between the pooling 'g' and the logits 'y'",
        ),
        (
            "g = GlobalAveragePool(f) v = Flatten(g) s = Mul(v, v) y = MatMul(s, m)",
            "Mul 's' lies between the pooling 'g' and the logits 'y'",
        ),
        (
            "g = GlobalAveragePool(f) v = Flatten(g) s = Div(scale, v) y = MatMul(s, m)",
            "Div 's' lies between the pooling 'g' and the logits 'y'",
        ),
        ("v = Flatten(f) y = MatMul(v, all)", "the logits 'y' read each cell of 'f' by itself, not their average"),
        (
            "v = Flatten(f) a = MatMul(v, all) b = Relu(a) y = Add(b, bias)",
            "no global average pooling stands before the logits 'y', but Relu 'b'",
        ),
        (
            "g = GlobalMaxPool(f) v = Flatten(g) y = MatMul(v, m)",
            "no global average pooling stands before the logits 'y', but GlobalMaxPool 'g'",
        ),
        (
            "g = AveragePool<kernel_shape=[7,7], pads=[0,0,1,1], count_include_pad=1>(f) v = Flatten(g) y = MatMul(v, m)",  # noqa: E501
            "no global average pooling stands before the logits 'y', but AveragePool 'g'",
        ),
        (
            "a = AveragePool<kernel_shape=[5,5]>(f) b = MaxPool<kernel_shape=[2,2]>(a) v = Flatten(b) y = MatMul(v, m)",
            "no global average pooling stands before the logits 'y', but MaxPool 'b'",
        ),
    ],
)
def test_what_is_in_the_way_of_cam_is_named(nodes, reason):
    nodes, _, name = nodes.partition("[relu] ") if "[relu]" in nodes else (nodes, "", "")
    model = canonical(FEATURES + nodes + name + "}")
    if name:
        model.graph[-1].name = "relu"
    found = find_head(model)
    assert (found.gap, found.gap_reason) == (None, reason)


def test_a_clip_of_an_average_of_clipped_numbers_changes_nothing():
    # tf2onnx writes it behind the pooling of a network that was quantised.
    clipped = """
      r = Clip(f, low, high) g = GlobalAveragePool(r) c = Clip(g, low, high)
      v = Flatten(c) y = MatMul(v, m) }"""
    assert head_of(FEATURES + clipped).gap == Gap("g", "r")
    assert head_of(FEATURES + clipped.replace("Clip(g, low, high)", "Clip(g, low, two)")).gap is None


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_weighing_the_features_gives_the_logits(pool, rng):
    """The identity behind CAM: logits are linear in `pooled`, and `pooled` in the mean of `features`."""
    model = canonical(FEATURES + pool + " y = MatMul(v, m) }")
    gap = find_head(model).gap
    model.graph.outputs.extend(v for node in model.graph for v in node.outputs if v.name in (gap.pooled, gap.features))
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    pooled, features = run(model, {"x": x}, [gap.pooled, gap.features])
    mean = features.mean(axis=(2, 3)) * (36 if pool == POOLS["ReduceSum"] else 1)
    np.testing.assert_allclose(pooled.reshape(2, 4), mean, rtol=1e-5, atol=1e-6)


def test_weights_that_are_listed_as_inputs_are_weights():
    model = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["" : 8]> agraph (float[1,3,8,8] x, float[3,5] m, float[5] b) => (float[1,5] y)
        <float[3,5] m = {1,2,3,4,5,1,2,3,4,5,1,2,3,4,5}, float[5] b = {1,2,3,4,5}>
        { g = GlobalAveragePool(x) f = Flatten(g) z = MatMul(f, m) y = Add(z, b) }"""
    )
    assert find_head(canonicalise(ir.from_proto(model))).gap == Gap("g", "x")
