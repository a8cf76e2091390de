"""Gradients of quantised models: those of the same network in float, where rounding and clipping stay as they were."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from support.quantised import Frozen, session

from onnxsal.autodiff import vjp
from onnxsal.errors import LayerError, MissingRule

LEVELS = ("NONE", "BASIC", "EXTENDED", "ALL")
IMAGE = (2, 3, 12, 12)


def agree(model: onnx.ModelProto, x: np.ndarray, rng: np.random.Generator, levels=LEVELS) -> None:
    """Scores as the file's own at every level of optimisation, and the gradient of the frozen network."""
    name, y = model.graph.input[0].name, model.graph.output[0].name
    frozen = Frozen(model, x)
    v, u = rng.standard_normal(frozen.seen[y].shape), rng.standard_normal(x.shape)
    graph = ir.to_proto(vjp(model, of=y, wrt=name))
    onnx.checker.check_model(graph, full_check=True)
    expected = frozen.derivative(v, u)
    for level in levels:
        scores, gradient = session(graph, level).run(None, {name: x, f"cotangent_{y}": v.astype(np.float32)})
        np.testing.assert_array_equal(scores, session(model, level).run(None, {name: x})[0], err_msg=level)
        size = np.linalg.norm(gradient) * np.linalg.norm(u)
        assert abs(np.sum(gradient * u) - expected) < 2e-6 * size, level
        assert size > 0


# ----- Whole networks, as ONNX Runtime's own tools quantise them -----


def network() -> onnx.ModelProto:
    """A stem, a depthwise block, a residual sum, a pooling, a linear head; and ReLUs that quantisation folds."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (8, 8, 1, 1), "fc": (8, 5), "fb": (5,)}
    weights = [numpy_helper.from_array((rng.standard_normal(s) / 2).astype(np.float32), k) for k, s in shapes.items()]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Sigmoid", ["c2"], ["s2"]),
        node("Mul", ["c2", "s2"], ["m2"]),
        node("Conv", ["m2", "w3"], ["c3"]),
        node("Add", ["c3", "r1"], ["a"]),
        node("Relu", ["a"], ["ra"]),
        node("MaxPool", ["ra"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "fc", "fb"], ["y"]),
    ]
    for n in nodes:
        n.name = n.output[0]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *IMAGE[1:]])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "network", [image], [scores], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Batches(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.batches = iter([{"x": rng.standard_normal(IMAGE).astype(np.float32)} for _ in range(3)])

    def get_next(self):
        return next(self.batches, None)


KINDS = {
    "asymmetric": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "per channel": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True},
    "signed": {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["QDQ", "QOperator"])
def test_a_static_networks_gradient_is_that_of_its_frozen_twin(form, kind, rng, tmp_path):
    quantize_static(network(), tmp_path / "q.onnx", Batches(), quant_format=form, **KINDS[kind])
    x = 1.3 * rng.standard_normal(IMAGE).astype(np.float32)  # some of it beyond what was calibrated for
    agree(onnx.load(tmp_path / "q.onnx"), x, rng)


def test_a_16_bit_networks_gradient_is_that_of_its_frozen_twin(rng, tmp_path):
    kind = {"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt8}
    quantize_static(network(), tmp_path / "q.onnx", Batches(), quant_format=QuantFormat.QDQ, **kind)
    agree(onnx.load(tmp_path / "q.onnx"), rng.standard_normal(IMAGE).astype(np.float32), rng)


def test_a_dynamic_networks_gradient_is_that_of_its_frozen_twin(rng, tmp_path):
    quantize_dynamic(network(), tmp_path / "q.onnx", weight_type=QuantType.QUInt8)
    agree(onnx.load(tmp_path / "q.onnx"), rng.standard_normal(IMAGE).astype(np.float32), rng)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamic_recurrences_gradient_is_that_of_its_decoded_weights(per_channel, rng, tmp_path):
    """Its kernel rounds inputs and states, too, so that the two agree to a percent or so."""
    text = """<ir_version: 8, opset_import: ["" : 13]> agraph (float[4,2,3] x) => (float[4,2,2,5] y)
        <float[2,20,3] w, float[2,20,5] r, float[2,40] b>
        { y = LSTM<hidden_size=5,direction="bidirectional">(x, w, r, b) }"""
    plain = onnx.parser.parse_model(text)
    for name, shape in {"w": (2, 20, 3), "r": (2, 20, 5), "b": (2, 40)}.items():
        plain.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    del plain.graph.value_info[:]
    quantize_dynamic(plain, tmp_path / "q.onnx", weight_type=QuantType.QInt8, per_channel=per_channel)
    model = onnx.load(tmp_path / "q.onnx")
    assert [n.op_type for n in model.graph.node] == ["DynamicQuantizeLSTM"]
    feeds = {"x": rng.standard_normal((4, 2, 3)).astype(np.float32)}
    feeds["cotangent_y"] = rng.standard_normal((4, 2, 2, 5)).astype(np.float32)
    y, found = session(ir.to_proto(vjp(model, of="y", wrt="x"))).run(None, feeds)
    expected = session(ir.to_proto(vjp(plain, of="y", wrt="x"))).run(None, feeds)[1]
    np.testing.assert_array_equal(y, session(model).run(None, {"x": feeds["x"]})[0])
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


# ----- One operator at a time -----

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> agraph '
HELD = """
<float s = {0.03}, uint8 z = {120}, float t = {0.02}, uint8 o = {0}, float r = {0.05}, uint8 m = {131},
 uint8[4,3] w, float[3] ws, uint8[3] wz, uint8[4,1,2,2] k, float[4] ks, uint8[4] kz, int32[4] kb, int32[3] gb>
"""


def model_of(text: str, rng: np.random.Generator) -> onnx.ModelProto:
    """Parse a model that may use the scales and weights above; those without values get random ones."""
    inputs, body = text.split("=>")
    outputs, body = body.split("{", 1)
    model = onnx.parser.parse_model(f"{HEADER} {inputs} => {outputs} {HELD} {{ {body}")
    given = {t.name for t in model.graph.initializer}
    for info in list(model.graph.value_info):
        if info.name in given:
            continue
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        drawn = {"float32": rng.uniform(0.01, 0.04, shape), "int32": rng.integers(-900, 900, shape)}
        array = drawn.get(dtype.name, rng.integers(100, 156, shape)).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, info.name))
    del model.graph.value_info[:]
    return model


MS = "com.microsoft."
OPERATORS = {
    "QLinearConv": "q = QLinearConv<group=4, strides=[2,1]>(a, s, z, k, ks, kz, t, o, kb)",
    "QLinearConv of few attributes": 'q = QLinearConv<group=4, auto_pad="SAME_UPPER">(a, s, z, k, ks, kz, t, m)',
    "QLinearAdd": f"b = Transpose<perm=[0,1,3,2]>(a) q = {MS}QLinearAdd(a, s, z, b, s, z, r, m)",
    "QLinearMul": f"b = QuantizeLinear(x, r, m) q = {MS}QLinearMul(a, s, z, b, r, m, t, o)",
    "QLinearSigmoid": f"q = {MS}QLinearSigmoid(a, s, z, t, o)",
    "QLinearLeakyRelu": f"q = {MS}QLinearLeakyRelu<alpha=0.2>(a, s, z, t, m)",
    "QLinearSoftmax": f"q = {MS}QLinearSoftmax<axis=1,opset=13>(a, s, z, t, o)",
    "QLinearSoftmax of opset 12": f"q = {MS}QLinearSoftmax<axis=2,opset=12>(a, s, z, t, o)",
    "QLinearConcat": f"b = QuantizeLinear(x, r, m) q = {MS}QLinearConcat<axis=1>(r, z, a, s, z, b, r, m)",
    "QLinearAveragePool": f"q = {MS}QLinearAveragePool<kernel_shape=[2,2],pads=[1,0,0,1]>(a, s, z, t, m)",
    "QLinearAveragePool, channels last": f"q = {MS}QLinearAveragePool<kernel_shape=[2,2],channels_last=1>"
    "(a, s, z, t, m)",
    "QLinearGlobalAveragePool": f"q = {MS}QLinearGlobalAveragePool(a, s, z, t, m)",
    "QLinearGlobalAveragePool, channels last": f"q = {MS}QLinearGlobalAveragePool<channels_last=1>(a, s, z, t, m)",
    "QLinearWhere": "c = Constant<value=bool[4] {1,0,0,1}>() b = QuantizeLinear(x, r, m)"
    f" q = {MS}QLinearWhere(c, a, s, z, b, r, m, r, z)",
    "QLinearMatMul": "q = QLinearMatMul(a, s, z, w, ws, wz, t, o)",
    "QGemm": f"f = Flatten<axis=3>(a) q = {MS}QGemm<alpha=0.5>(f, s, z, w, ws, wz, gb, t, m)",
    "QGemm to float": f"f = Flatten<axis=3>(a) q = {MS}QGemm(f, s, z, w, ws, wz)",
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_quantised_operators_gradient_is_that_of_the_float_one_between_its_masks(name, rng):
    body = OPERATORS[name]
    scale = "t, o" if name == "QLinearConv" else "r, z" if name == "QLinearConcat" else body[-5:-1]
    read = "y = Identity(q)" if name == "QGemm to float" else f"y = DequantizeLinear(q, {scale})"
    model = model_of(f"(float[2,4,4,4] x) => (float[1] y) {{ a = QuantizeLinear(x, s, z) {body} {read} }}", rng)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    x = 2 * rng.standard_normal((2, 4, 4, 4))
    x += 0.1 * np.sign(x)  # off the kink of LeakyRelu, which quantised numbers hit
    agree(model, x.astype(np.float32), rng, ("NONE", "ALL"))


CHOSEN = {
    "MaxPool": "b = Sin(x) c = MaxPool<kernel_shape=[3,2],strides=[1,2]>(b)",
    "MaxPool by another scale": "b = DequantizeLinear(a, s, z) c = MaxPool<kernel_shape=[2,2]>(b)",
    "ReduceMax": "b = Sin(x) e = Constant<value=int64[2] {2,3}>() c = ReduceMax(b, e)",
    "Max": "b = DequantizeLinear(a, s, z) c = Max(b, t)",
}


@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_chosen_is_found_again_though_it_is_rounded_afterwards(name, rng):
    body = f"a = QuantizeLinear(x, s, z) {CHOSEN[name]} q = QuantizeLinear(c, r, m) y = DequantizeLinear(q, r, m)"
    model = model_of(f"(float[2,4,4,4] x) => (float[1] y) {{ {body} }}", rng)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    # Numbers that are well apart, so that finite differences choose alike.
    x = (rng.permutation(128).reshape(2, 4, 4, 4) - 63.3) / 50
    agree(model, x.astype(np.float32), rng, ("NONE", "ALL"))


PATHS = {
    "moved as integers": "b = Transpose<perm=[0,2,3,1]>(a) c = Flatten(b) q = Concat<axis=1>(c, c)"
    " y = DequantizeLinear(q, s, z)",
    "pooled as integers": "q = MaxPool<kernel_shape=[2,2]>(a) y = DequantizeLinear(q, s, z)",
    "read as steps": "b = Cast<to=1>(a) y = Mul(b, t)",
    "widened": "b = Cast<to=6>(a) y = DequantizeLinear(b, t)",
    "quantised twice": "b = DequantizeLinear(a, s, z) q = QuantizeLinear(b, t, m) y = DequantizeLinear(q, t, m)",
    "read by another scale": "y = DequantizeLinear(a, t, m)",
    "dynamic product with a bias": f"b = DequantizeLinear(a, s, z) f = {MS}DynamicQuantizeMatMul(b, w, ws, wz, ws)"
    " y = Mul(f, t)",
    "dynamic product, scaled at once": "b = DequantizeLinear(a, s, z) q, e, h = DynamicQuantizeLinear(b)"
    f" y = {MS}MatMulIntegerToFloat(q, w, e, ws, h, wz, ws)",
    "quantised twice by ONNX Runtime's own": f"b = DequantizeLinear(a, s, z) q = {MS}QuantizeLinear(b, t, m)"
    f" y = {MS}DequantizeLinear(q, t, m)",
}


@pytest.mark.parametrize("path", PATHS)
def test_gradients_pass_integers(path, rng):
    text = f"(float[2,4,4,4] x) => (float[1] y) {{ a = QuantizeLinear(x, s, z) {PATHS[path]} }}"
    model = model_of(text, rng)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    # What is quantised twice at once ONNX Runtime quantises once from ENABLE_BASIC on, as long as nobody looks at it.
    levels = ("NONE",) if "twice" in path else ("NONE", "ALL")
    agree(model, 3 * rng.standard_normal((2, 4, 4, 4)).astype(np.float32), rng, levels)


# Where one channel has a scale of its own; and types of other widths.
TYPES = {
    "per axis": ("float[3] s = {0.01, 0.02, 0.03}, uint8[3] z = {0, 100, 128}", "<axis=1>"),
    "uint16": ("float s = {0.0001}, uint16 z = {20000}", ""),
    "int16": ("float s = {0.00005}, int16 z = {-32768}", ""),
    "int4": ("float s = {0.2}, int4 z = {-1}", ""),
    "float8": ("float s = {0.003}, float8e4m3fn z = {0}", ""),
    "uint4, of one side": ("float s = {0.1}, uint4 z = {0}", ""),
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_and_axis_has_its_own_limits(name, rng):
    held, axis = TYPES[name]
    nodes = (
        f"q = QuantizeLinear{axis}(x, s, z) d = DequantizeLinear{axis}(q, s, z) e = Mul(d, d)"
        f" p = QuantizeLinear{axis}(e, s, z) y = DequantizeLinear{axis}(p, s, z)"
    )
    model = onnx.parser.parse_model(f"{HEADER} (float[2,3,5] x) => (float[2,3,5] y) <{held}> {{ {nodes} }}")
    agree(model, rng.standard_normal((2, 3, 5)).astype(np.float32), rng, ("NONE", "ALL"))


def test_blocks_of_weights_have_scales_of_their_own(rng):
    held = "<int4[4,6] w, float[2,6] s, int4[2,6] z>"
    nodes = "d = DequantizeLinear<axis=0,block_size=2>(w, s, z) y = MatMul(x, d)"
    model = onnx.parser.parse_model(f"{HEADER} (float[3,4] x) => (float[3,6] y) {held} {{ {nodes} }}")
    del model.graph.value_info[:]
    nibble = onnx.TensorProto.INT4
    w, z = rng.integers(-8, 8, (4, 6)), rng.integers(-3, 3, (2, 6))
    model.graph.initializer.extend(
        [
            helper.make_tensor("w", nibble, w.shape, w.reshape(-1)),
            helper.make_tensor("z", nibble, z.shape, z.reshape(-1)),
            numpy_helper.from_array(rng.uniform(0.1, 0.3, (2, 6)).astype(np.float32), "s"),
        ]
    )
    agree(model, rng.standard_normal((3, 4)).astype(np.float32), rng)


@pytest.mark.parametrize("keep_half", [False, True], ids=["in float32", "in float16"])
def test_scales_may_be_of_half_precision(keep_half, rng):
    nodes = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, d)"
    model = onnx.parser.parse_model(
        f"{HEADER} (float16[2,4] x) => (float16[2,4] y) <float16 s, uint8 z = {{120}}> {{ {nodes} }}"
    )
    del model.graph.value_info[:]
    model.graph.initializer.append(numpy_helper.from_array(np.float16(0.0625), "s"))
    x = rng.standard_normal((2, 4)).astype(np.float16)
    graph = ir.to_proto(vjp(model, of="y", wrt="x", keep_half=keep_half))
    dtype = np.float16 if keep_half else np.float32
    (found,) = session(graph).run(["grad_x"], {"x": x, "cotangent_y": np.ones((2, 4), dtype)})
    assert found.dtype == dtype
    np.testing.assert_allclose(found, 2 * np.rint(x.astype(np.float64) / 0.0625) * 0.0625, rtol=2e-3)


# ----- What is promised beside -----


def gradient(model: onnx.ModelProto, x: np.ndarray, wrt: str = "x") -> np.ndarray:
    graph = ir.to_proto(vjp(model, of=model.graph.output[0].name, wrt=wrt))
    seed = np.ones(session(model).run(None, {"x": x})[0].shape, np.float32)
    return session(graph).run([f"grad_{wrt}"], {"x": x, f"cotangent_{model.graph.output[0].name}": seed})[0]


def quantise_text(nodes: str, held: str = "float s = {0.1}, uint8 z = {0}") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER} (float[n] x) => (float[n] y) <{held}> {{ {nodes} }}")


def test_at_the_image_black_and_white_are_not_clipped():
    model = quantise_text("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)")
    x = np.array([-0.06, -0.04, 0, 12, 25.5, 25.54, 25.56], np.float32)
    assert gradient(model, x).tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_behind_an_operator_the_limits_are_a_relus_and_a_clips():
    nodes = "a = QuantizeLinear(x, t, m) b = DequantizeLinear(a, t, m) c = Add(b, b)"
    held = "float s = {0.1}, uint8 z = {0}, float t = {0.25}, uint8 m = {128}"
    model = quantise_text(f"{nodes} q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z)", held)
    assert gradient(model, np.array([-1, 0, 1, 12, 13], np.float32)).tolist() == [0, 0, 2, 2, 0]


def test_what_cannot_pass_a_limit_is_not_clipped_there():
    held = "float s = {0.00390625}, uint8 z = {0}, float t = {0.25}, uint8 m = {128}"
    nodes = "a = QuantizeLinear(x, t, m) b = DequantizeLinear(a, t, m) c = Sigmoid(b)"
    model = quantise_text(f"{nodes} q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z)", held)
    low, middle = gradient(model, np.array([-8, 0], np.float32))
    assert middle == 0.25
    assert 0 < low < 0.001  # quantised to 0, but nothing was cut off


def test_integers_have_gradients_of_what_they_stand_for():
    model = quantise_text("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, d)")
    x = np.array([1, 2], np.float32)
    np.testing.assert_allclose(gradient(model, x, wrt="q"), [2, 4], rtol=1e-6)


def test_indices_and_other_integers_have_none():
    nodes = "i = Shape(x) f = Cast<to=1>(i) g = ReduceMax(f) y = Mul(x, g)"
    with pytest.raises(LayerError, match="has no gradient: name a float value, or a quantised one"):
        vjp(quantise_text(nodes), of="y", wrt="i")


def test_every_operator_without_a_rule_is_named():
    nodes = (
        'a = QuantizeLinear(x, s, z) b = BitShift<direction="LEFT">(a, z) c = com.microsoft.QLinearSwirl(a, s, z)'
        " d = DequantizeLinear(b, s, z) e = DequantizeLinear(c, s, z) y = Add(d, e)"
    )
    with pytest.raises(MissingRule, match=r"2 input.*BitShift.*com\.microsoft::QLinearSwirl"):
        vjp(quantise_text(nodes), of="y", wrt="x")


def test_weights_are_decoded_by_what_onnx_runtime_does_once_and_are_not_copied(tmp_path):
    quantize_static(network(), tmp_path / "q.onnx", Batches(), quant_format=QuantFormat.QDQ)
    model = onnx.load(tmp_path / "q.onnx")
    graph = ir.to_proto(vjp(model, of="y", wrt="x"))
    held = {t.name for t in model.graph.initializer}
    added = [numpy_helper.to_array(t).size for t in graph.graph.initializer if t.name not in held]
    assert max(added) <= 9  # the shares of a mean over 3x3; the smallest weight has 40
