"""Operators that ONNX Runtime fuses others to: kernels stay, and gradients are those of what these compute."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from support.quantised import session

from onnxsal.autodiff import vjp
from onnxsal.errors import MissingRule, UnsupportedModel

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> agraph '
TOKENS, IMAGE = "float[2,5,8] x", "float[2,4,6,6] x"
# Inputs and weights of each model, and its operator.
OPERATORS = {
    "FusedConv": (IMAGE, "float[3,4,3,3] w, float[3] b", 'FusedConv<activation="Relu",pads=[1,1,1,1]>(x, w, b)'),
    "FusedConv with a sum": (
        *(IMAGE, "float[3,4,1,1] w, float[3] b, float[2,3,6,6] z"),
        'FusedConv<activation="LeakyRelu",activation_params=[0.1]>(x, w, b, z)',
    ),
    "FusedConv up to 6": (IMAGE, "float[3,4,3,3] w", 'FusedConv<activation="Clip",activation_params=[0.0,1.5]>(x, w)'),
    "FusedGemm": (
        *("float[3,4] x", "float[4,5] w, float[5] b"),
        'FusedGemm<activation="LeakyRelu",activation_alpha=0.2,alpha=0.5>(x, w, b)',
    ),
    "FusedMatMul": ("float[2,4,5] x", "float[2,3,4] w", "FusedMatMul<transA=1,transB=1,alpha=0.5>(x, w)"),
    "Gelu": (TOKENS, "", "Gelu(x)"),
    "BiasGelu": (TOKENS, "float[8] b", "BiasGelu(x, b)"),
    "FastGelu": (TOKENS, "float[8] b", "FastGelu(x, b)"),
    "QuickGelu": (TOKENS, "", "QuickGelu<alpha=1.5>(x)"),
    "SkipLayerNormalization": (
        *(TOKENS, "float[2,5,8] s, float[8] g, float[8] b, float[8] c"),
        "SkipLayerNormalization<epsilon=0.01>(x, s, g, b, c)",
    ),
    "SkipSimplifiedLayerNormalization": (
        *(TOKENS, "float[2,5,8] s, float[8] g"),
        "SkipSimplifiedLayerNormalization(x, s, g)",
    ),
    "Attention": (
        *(TOKENS, "float[8,24] w, float[24] b"),
        "Attention<num_heads=2>(x, w, b)",
    ),
    "Attention of unequal parts": (
        *(TOKENS, "float[8,20] w, float[20] b"),
        "Attention<num_heads=2,qkv_hidden_sizes=[8,8,4],scale=0.3>(x, w, b)",
    ),
    "MultiHeadAttention": (TOKENS, "float[24] b", "MultiHeadAttention<num_heads=4>(x, x, x, b)"),
    "ConvTransposeWithDynamicPads": (
        *("float[1,3,4,4] x", "float[3,2,3,3] w, int64[4] p"),
        "ConvTransposeWithDynamicPads<strides=[2,2],output_padding=[1,0]>(x, w, p)",
    ),
    "GridSample": ("float[1,2,5,5] x", "float[1,3,3,2] w", 'GridSample<mode="bilinear">(x, w)'),
    "Trilu": ("float[4,4] x", "", "Trilu<upper=0>(x)"),
}


def model_of(name: str, rng: np.random.Generator) -> onnx.ModelProto:
    given, held, call = OPERATORS[name]
    held = f"<{held}>" if held else ""
    text = f"{HEADER} ({given}) => (float[1] y) {held} {{ a = Mul(x, x) d = com.microsoft.{call} y = Add(d, d) }}"
    model = onnx.parser.parse_model(
        text.replace("(x, ", "(a, ").replace("(x)", "(a)").replace("Mul(a, x)", "Mul(x, x)")
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for info in model.graph.value_info:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        whole = info.type.tensor_type.elem_type == onnx.TensorProto.INT64
        array = np.ones(shape, np.int64) if whole else rng.standard_normal(shape).astype(np.float32) / 2
        model.graph.initializer.append(numpy_helper.from_array(array, info.name))
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize("name", OPERATORS)
def test_a_fused_operator_keeps_its_kernel_and_has_the_gradient_of_what_it_computes(name, rng):
    model = model_of(name, rng)
    x = rng.standard_normal([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])
    plain = session(model)

    def scores(at: np.ndarray) -> np.ndarray:
        return plain.run(None, {"x": at.astype(np.float32)})[0]

    v, u = rng.standard_normal(scores(x).shape), rng.standard_normal(x.shape)
    graph = ir.to_proto(vjp(model, of="y", wrt="x"))
    onnx.checker.check_model(graph, full_check=True)
    found, gradient = session(graph).run(None, {"x": x.astype(np.float32), "cotangent_y": v.astype(np.float32)})
    np.testing.assert_array_equal(found, scores(x))
    step = 2e-3
    numeric = np.sum(v * (scores(x + step * u).astype(np.float64) - scores(x - step * u))) / (2 * step)
    assert abs(np.sum(gradient * u) - numeric) < 2e-3 * np.linalg.norm(gradient) * np.linalg.norm(u)
    assert np.linalg.norm(gradient) > 0


def test_a_simplified_normalisation_in_onnx_s_own_name_is_known(rng):
    text = f"{HEADER} (float[2,5,8] x) => (float[2,5,8] y) <float[8] g> {{ y = SimplifiedLayerNormalization(x, g) }}"
    model = onnx.parser.parse_model(text)
    del model.graph.value_info[:]
    model.graph.initializer.append(numpy_helper.from_array(rng.uniform(0.5, 1, 8).astype(np.float32), "g"))
    x, v = rng.standard_normal((2, 2, 5, 8)).astype(np.float32)
    (gradient,) = session(ir.to_proto(vjp(model, of="y", wrt="x"))).run(["grad_x"], {"x": x, "cotangent_y": v})
    # What is divided by its own size cannot grow.
    np.testing.assert_allclose(np.sum(gradient * x, axis=-1), 0, atol=1e-4)


def test_attention_with_a_mask_of_the_past_is_named(rng):
    text = (
        f"{HEADER} (float[2,5,8] x, float[8,24] w, float[24] b) => (float[2,5,8] y)"
        " { y = com.microsoft.Attention<num_heads=2,unidirectional=1>(x, w, b) }"
    )
    with pytest.raises(MissingRule, match=r"com\.microsoft::Attention"):
        vjp(onnx.parser.parse_model(text), of="y", wrt="x")


# ----- Files that ONNX Runtime has optimised -----


def block() -> onnx.ModelProto:
    """A convolution to tokens, and a transformer's block as exporters write it, which ONNX Runtime fuses."""
    rng = np.random.default_rng(0)
    shapes = {
        "k": (8, 3, 3, 3),
        "g1": (8,),
        "b1": (8,),
        "m1": (8, 16),
        "c1": (16,),
        "m2": (16, 8),
        "g2": (8,),
        "b2": (8,),
    }
    weights = [numpy_helper.from_array((rng.standard_normal(s) / 3).astype(np.float32), n) for n, s in shapes.items()]
    text = f"""{HEADER} (float[2,3,8,8] x) => (float[2,36,8] y) {{
        r2 = Constant<value=float {{1.4142135}}>() one = Constant<value=float {{1.0}}>()
        half = Constant<value=float {{0.5}}>()
        rows = Constant<value=int64[3] {{0,8,-1}}>()
        c = Conv(x, k) r = Relu(c) f = Reshape(r, rows) t = Transpose<perm=[0,2,1]>(f)
        n = LayerNormalization(t, g1, b1) h = MatMul(n, m1) i = Add(h, c1)
        d = Div(i, r2) e = Erf(d) o = Add(e, one) p = Mul(i, o) q = Mul(p, half)
        s = MatMul(q, m2) u = Add(s, n) y = LayerNormalization(u, g2, b2) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(weights)
    return model


def optimised(model: onnx.ModelProto, level: str, path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def test_an_optimised_file_has_the_gradient_of_the_model_it_was_made_from(rng, tmp_path):
    saved = optimised(block(), "EXTENDED", tmp_path / "extended.onnx")
    assert {"FusedConv", "SkipLayerNormalization"} <= {n.op_type for n in saved.graph.node if n.domain}
    x, v = rng.standard_normal((2, 3, 8, 8)).astype(np.float32), rng.standard_normal((2, 36, 8)).astype(np.float32)
    first, second = (
        session(ir.to_proto(vjp(m, of="y", wrt="x"))).run(["grad_x"], {"x": x, "cotangent_y": v})[0]
        for m in (block(), saved)
    )
    np.testing.assert_allclose(second, first, atol=1e-5 * np.abs(first).max())


def test_a_file_laid_out_for_one_machine_is_refused_with_the_way_out(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc", kernel_shape=[1, 1])
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "laid out", [info("x", 1, [1, 8, 2, 2]), info("w", 1, [8, 8, 1, 1])], [info("y", 1, [1, 8, 2, 2])]
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft.nchwc", 1)]
    with pytest.raises(UnsupportedModel, match="com.microsoft.nchwc.*save it at ENABLE_BASIC"):
        vjp(helper.make_model(graph, opset_imports=imports), of="y", wrt="x")
