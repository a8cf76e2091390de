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
    "Attention to the past only": (
        *(TOKENS, "float[8,24] w, float[24] b"),
        "Attention<num_heads=2,unidirectional=1>(x, w, b)",
    ),
    "Attention to as many tokens as each sample has": (
        *(TOKENS, "float[8,24] w, float[24] b, int32[2] m = {2, 4}"),
        "Attention<num_heads=2>(x, w, b, m)",
    ),
    "Attention from one token to another": (
        *(TOKENS, "float[8,24] w, float[24] b, int32[4] m = {3, 5, 1, 0}"),
        "Attention<num_heads=2,unidirectional=1>(x, w, b, m)",
    ),
    "Attention to the tokens of a mask, with a bias": (
        *(TOKENS, "float[8,24] w, float[24] b, float[1,2,5,5] t, int32[2,5] m = {1, 1, 0, 1, 0, 0, 1, 1, 1, 1}"),
        'Attention<num_heads=2,mask_filter_value=-3.0>(x, w, b, m, "", t)',
    ),
    "MultiHeadAttention to fewer tokens, of unequal parts": (
        *(TOKENS, "float[2,3,8] k, float[2,3,6] v, float[22] b, int32[2,3] m = {1, 0, 1, 1, 1, 0}"),
        "MultiHeadAttention<num_heads=2,scale=0.4>(x, k, v, b, m)",
    ),
    "MultiHeadAttention with a mask for each pair": (
        *(TOKENS, "int32[2,5,5] m = {" + ", ".join("1101001111" * 5) + "}"),
        'MultiHeadAttention<num_heads=2,unidirectional=1>(x, x, x, "", m)',
    ),
    "MultiHeadAttention to more tokens than ask": (
        *(TOKENS, "float[2,2,7,4] k, float[2,2,7,4] v, float[1,1,5,7] t"),
        'MultiHeadAttention<num_heads=2,unidirectional=1>(x, k, v, "", "", t)',
    ),
    "MatMulNBits": (
        *("float[2,3,40] x", "uint8[6,3,8] w, float[18] s, uint8[12] z, float[6] b"),
        'MatMulNBits<K=40,N=6,block_size=16,bits=4>(x, w, s, z, "", b)',
    ),
    "MatMulNBits of eight bits": (
        *("float[3,32] x", "uint8[6,2,16] w, float[6,2] s"),
        "MatMulNBits<K=32,N=6,block_size=16,bits=8>(x, w, s)",
    ),
    "MatMulNBits of two bits, with zero points that are no integers": (
        *("float[3,32] x", "uint8[6,2,4] w, float[6,2] s, float[6,2] z"),
        "MatMulNBits<K=32,N=6,block_size=16,bits=2>(x, w, s, z)",
    ),
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
        kind = info.type.tensor_type.elem_type
        array = rng.standard_normal(shape).astype(np.float32) / 2
        array = np.ones(shape, np.int64) if kind == onnx.TensorProto.INT64 else array
        array = rng.integers(0, 256, shape).astype(np.uint8) if kind == onnx.TensorProto.UINT8 else array
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


def test_attention_that_writes_into_a_cache_is_named(rng):
    text = (
        f"{HEADER} (float[2,5,8] x, float[8,24] w, float[24] b, float[2,2,2,9,4] p, int32[1] n) => (float[2,5,8] y)"
        ' { y = com.microsoft.Attention<num_heads=2,past_present_share_buffer=1>(x, w, b, "", p, "", n) }'
    )
    with pytest.raises(MissingRule, match=r"com\.microsoft::Attention"):
        vjp(onnx.parser.parse_model(text), of="y", wrt="x")


SEVERAL = {
    "SkipLayerNormalization": ("float[2,5,8] x, float[2,5,8] s, float[8] g", "SkipLayerNormalization(x, s, g)", (0, 3)),
    "MultiHeadAttention": (
        "float[2,5,8] x, float[2,5,8] k, float[2,5,8] v, float[2,2,3,4] p, float[2,2,3,4] q",
        'MultiHeadAttention<num_heads=2>(x, k, v, "", "", "", p, q)',
        (0, 1, 2),
    ),
    "Attention": (
        "float[2,5,8] x, float[8,24] w, float[24] b, float[2,2,2,3,4] p",
        'Attention<num_heads=2,unidirectional=1>(x, w, b, "", p)',
        (0, 1),
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_outputs_that_make_each_other_all_hand_on_their_gradients(name, rng):
    given, call, used = SEVERAL[name]
    outputs = [f"y{i}" if i in used else f"_{i}" for i in range(max(used) + 1)]
    text = f"{HEADER} ({given}) => (float[2] y0) {{ {', '.join(outputs)} = com.microsoft.{call} }}"
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.output[:] = [o if o.startswith("y") else "" for o in node.output]
    kind = onnx.TensorProto.FLOAT
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(f"y{i}", kind, None) for i in used)
    feeds = {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in model.graph.input
    }
    plain, wrt = session(model), list(feeds)
    seeds = {f"cotangent_y{i}": rng.standard_normal(y.shape) for i, y in zip(used, plain.run(None, feeds), strict=True)}
    graph = session(ir.to_proto(vjp(model, of=[f"y{i}" for i in used], wrt=wrt)))
    gradients = graph.run([f"grad_{n}" for n in wrt], feeds | {k: v.astype(np.float32) for k, v in seeds.items()})
    u, step = [rng.standard_normal(a.shape) for a in feeds.values()], 2e-3

    def score(sign: int) -> float:
        moved = {n: (a + sign * step * d).astype(np.float32) for (n, a), d in zip(feeds.items(), u, strict=True)}
        return sum(np.sum(v * y) for v, y in zip(seeds.values(), plain.run(None, moved), strict=True))

    numeric = (score(1) - score(-1)) / (2 * step)
    assert sum(np.sum(g * d) for g, d in zip(gradients, u, strict=True)) == pytest.approx(numeric, rel=5e-3, abs=5e-3)


def test_words_that_are_embedded_pass_gradients_to_what_embeds_them(rng):
    text = (
        f"{HEADER} (int32[b,s] i, int32[b,s] k, float[6,8] w, float[7,8] p, float[3,8] t, float[8] g, float[8] o)"
        " => (float[b,s,8] y, int32[b] n) { y, n = com.microsoft.EmbedLayerNormalization(i, k, w, p, t, g, o, k) }"
    )
    model = onnx.parser.parse_model(text)
    feeds = {"i": rng.integers(0, 6, (2, 5)), "k": rng.integers(0, 3, (2, 5))}
    shapes = {"w": (6, 8), "p": (7, 8), "t": (3, 8), "g": (8,), "o": (8,)}
    feeds = {k: a.astype(np.int32) for k, a in feeds.items()} | {
        k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()
    }
    v, u, step = rng.standard_normal((2, 5, 8)), {k: rng.standard_normal(s) for k, s in shapes.items()}, 2e-3
    graph = vjp(model, of="y", wrt=list(shapes))
    assert next(x for x in graph.graph.outputs if x.name == "y").shape == ir.Shape(["b", "s", 8])
    gradients = session(ir.to_proto(graph)).run(
        [f"grad_{k}" for k in shapes], feeds | {"cotangent_y": v.astype(np.float32)}
    )
    plus, minus = (
        session(model).run(
            ["y"], feeds | {k: feeds[k] + np.float32(sign * step) * d.astype(np.float32) for k, d in u.items()}
        )[0]
        for sign in (1, -1)
    )
    numeric = np.sum(v * (plus.astype(np.float64) - minus)) / (2 * step)
    assert sum(np.sum(g * u[k]) for k, g in zip(shapes, gradients, strict=True)) == pytest.approx(numeric, rel=5e-3)


def test_attention_of_integers_has_the_gradients_of_the_numbers_that_they_stand_for(rng):
    text = f"""{HEADER} (float[2,5,8] x) => (float[2,5,8] y) <float s = {{0.02}}, float t = {{0.01}}, uint8 z = {{128}},
        int8 o = {{0}}, int32[2] m = {{3, 5}}> {{ q = QuantizeLinear(x, s, z)
        y = com.microsoft.QAttention<num_heads=2>(q, w, b, s, t, m, z, o) }}"""
    twin = f"""{HEADER} (float[2,5,8] x) => (float[2,5,8] y) <float t = {{0.01}}, int8 o = {{0}},
        int32[2] m = {{3, 5}}> {{ d = DequantizeLinear(w, t, o)
        y = com.microsoft.Attention<num_heads=2>(x, d, b, m) }}"""
    weights = {"w": rng.integers(-127, 127, (8, 24)).astype(np.int8), "b": rng.standard_normal(24).astype(np.float32)}
    x, v = rng.uniform(-2, 2, (2, 5, 8)).astype(np.float32), rng.standard_normal((2, 5, 8)).astype(np.float32)
    found = []
    for one in (text, twin):
        model = onnx.parser.parse_model(one)
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
        graph = session(ir.to_proto(vjp(model, of="y", wrt="x")))
        found.append(graph.run(["y", "grad_x"], {"x": x, "cotangent_y": v}))
    for quantised, exact in zip(*found, strict=True):
        np.testing.assert_allclose(quantised, exact, atol=0.05 * np.abs(exact).max())


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


def test_operators_that_the_opset_of_an_optimised_file_does_not_have_yet_are_known(rng):
    body = "(float[n,s,8] x) => (float[n,s,8] y) { a = LayerNormalization<epsilon=0.01>(x, g) y = Softmax<axis=2>(a) }"
    x, v = rng.standard_normal((2, 2, 5, 8)).astype(np.float32)
    found = []
    for opset in (11, 17):
        model = onnx.parser.parse_model(f'<ir_version: 7, opset_import: ["" : {opset}]> g {body}')
        model.graph.initializer.append(numpy_helper.from_array(np.linspace(1, 2, 8, dtype=np.float32), "g"))
        graph = session(ir.to_proto(vjp(model, of="y", wrt="x")))
        found.append(graph.run(["y", "grad_x"], {"x": x, "cotangent_y": v}))
    for early, late in zip(*found, strict=True):
        np.testing.assert_allclose(early, late, atol=1e-6)
    assert np.abs(found[0][1]).max() > 0


def test_an_optimised_transformer_of_any_batch_has_the_gradient_of_its_class_token(rng, tmp_path):
    text = f"""{HEADER} (float[b,5,8] x) => (float[b,8] y) <int64[1] r = {{-1}}, int64[2] j = {{2, 4}},
        float c = {{0.3}}, int64 z = {{0}}> {{
        e = Shape<start=0,end=2>(x) k = Concat<axis=0>(e, j) h = Reshape(x, k)
        q = Transpose<perm=[0,2,1,3]>(h) t = Transpose<perm=[0,2,3,1]>(h) s = MatMul(q, t) d = Mul(s, c)
        a = Softmax(d) o = MatMul(a, q) p = Transpose<perm=[0,2,1,3]>(o)
        f = Concat<axis=0>(e, r) l = Reshape(p, f) m = MatMul(l, w) u = Add(m, x)
        n = LayerNormalization(u, g) y = Gather<axis=1>(n, z) }}"""
    model = onnx.parser.parse_model(text)
    weights = {"w": rng.standard_normal((8, 8)), "g": rng.uniform(1, 2, 8)}
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items())
    saved = optimised(model, "EXTENDED", tmp_path / "extended.onnx")
    assert "FusedMatMul" in {n.op_type for n in saved.graph.node}
    x, v = rng.standard_normal((2, 5, 8)).astype(np.float32), rng.standard_normal((2, 8)).astype(np.float32)
    first, second = (
        session(ir.to_proto(vjp(m, of="y", wrt="x"))).run(["grad_x"], {"x": x, "cotangent_y": v})[0]
        for m in (model, saved)
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


def test_a_file_need_not_import_the_domain_of_what_was_fused(rng):
    """ONNX Runtime's transformers optimizer forgets it, and ONNX Runtime does not mind."""
    model = model_of("Gelu", rng)
    complete = ir.to_proto(vjp(model, of="y", wrt="x"))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 13))
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    feeds = {"x": x, "cotangent_y": x}
    found = session(ir.to_proto(vjp(model, of="y", wrt="x"))).run(None, feeds)
    np.testing.assert_array_equal(found[1], session(complete).run(None, feeds)[1])
