"""The contract of `vjp`: what goes in, what comes out, what is refused."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import vjp
from onnxsal.errors import LayerError, OnnxsalError, UnsupportedModel
from onnxsal.graph.canonical import opset_of

CUBE = "(float[n,3] x) => (float[n,3] y) { s = Mul(x, x)  y = Mul(s, x) }"
LIGHT = sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("light_*.onnx"))


def model(text: str, opset: int = 21, ir_version: int = 10, imports: str = "") -> onnx.ModelProto:
    name = "" if "agraph" in text else "agraph"
    return onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}{imports}]> {name} {text}')


def run(graph: ir.Model | onnx.ModelProto, **feeds) -> dict[str, np.ndarray]:
    """Run in ONNX Runtime, after the checker has agreed."""
    proto = graph if isinstance(graph, onnx.ModelProto) else ir.to_proto(graph)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def f32(*values) -> np.ndarray:
    return np.array(values, np.float32)


def names(values) -> list[str]:
    return [v.name for v in values]


def image_input(source: ir.Model) -> ir.Value:
    return next(v for v in source.graph.inputs if not v.is_initializer())


# ----- What comes out -----


def test_result_keeps_inputs_and_outputs_and_adds_its_own_behind_them():
    result = vjp(
        model("(float[2] a, float[2] b) => (float[2] y, float[2] z) { y = Mul(a, b)  z = Neg(a) }"),
        of="y",
        wrt=["b", "a"],
    )
    assert names(result.graph.inputs) == ["a", "b", "cotangent_y"]
    assert names(result.graph.outputs) == ["y", "z", "grad_b", "grad_a"]


def test_original_outputs_still_compute():
    x = f32([1, 2, 3])
    assert_allclose(run(vjp(model(CUBE), of="y", wrt="x"), x=x, cotangent_y=x)["y"], x**3)


def test_cotangent_and_gradient_have_shape_and_type_of_their_values():
    result = vjp(
        model("(double[n,4] x) => (double[m,2] y) <int64[2] s = {-1,2}> { y = Reshape(x, s) }"), of="y", wrt="x"
    )
    cotangent, gradient = result.graph.inputs[-1], result.graph.outputs[-1]
    assert cotangent.dtype == gradient.dtype == ir.DataType.DOUBLE
    assert list(cotangent.shape) == list(result.graph.outputs[0].shape)
    assert list(gradient.shape) == list(result.graph.inputs[0].shape)


@pytest.mark.parametrize("version", [3, 4, 6, 7, 8, 9, 10, 11, 12, 13])
def test_ir_version_stays_and_the_result_runs(version):
    result = vjp(model(CUBE, opset=9, ir_version=version), of="y", wrt="x")
    assert result.ir_version == version
    found = run(result, x=f32([1, 2, 3]), cotangent_y=f32([1, 1, 1]))
    assert_allclose(found["grad_x"], f32([3, 12, 27]))


@pytest.mark.parametrize("opset", range(7, 29))
def test_every_opset_differentiates(opset):
    text = "(float[n,3,4,4] x, float[2,3,1,1] w) => (float[n,32] y) { c = Conv(x, w)  y = Flatten(c) }"
    x, w = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in ((2, 3, 4, 4), (2, 3, 1, 1)))
    result = vjp(model(text, opset=opset), of="y", wrt="x")
    found = run(result, x=x, w=w, cotangent_y=np.ones((2, 32), np.float32))
    assert_allclose(found["grad_x"], np.broadcast_to(w[:, :, 0, 0].sum(0)[None, :, None, None], x.shape), rtol=1e-5)
    assert opset_of(result) == 21


@pytest.mark.parametrize("opset", [6, 29])
def test_opset_out_of_reach_is_refused_with_the_range(opset):
    with pytest.raises(UnsupportedModel, match=f"opset {opset} of ai.onnx; onnxsal reads 7 to 28"):
        vjp(model(CUBE, opset=opset), of="y", wrt="x")


def test_opset_stays_where_the_model_needs_a_later_one():
    text = "(float[n,4] x) => (float[n,4] y) { s = Mul(x, x)  h = Swish(x)  y = Add(s, h) }"
    result = vjp(model(text, opset=24), of="y", wrt="s")
    assert opset_of(result) == 24
    onnx.checker.check_model(ir.to_proto(result), full_check=True)


def test_source_is_left_as_it_was():
    source = ir.from_proto(
        model("(float[n,3] x) => (float[n,3] y) { c = Constant<value_float=2.0>()  y = Mul(x, c) }", opset=13)
    )
    before = ir.to_proto(source).SerializeToString()
    vjp(source, of="y", wrt="x")
    assert ir.to_proto(source).SerializeToString() == before


def test_weights_are_shared_not_copied():
    source = ir.from_proto(model("(float[n,64] x, float[64,64] w) => (float[n,64] y) { y = MatMul(x, w) }"))
    weight = ir.Value(name="v", const_value=ir.tensor(np.ones((64, 64), np.float32), name="v"))
    source.graph.register_initializer(weight)
    source.graph[0].replace_input_with(1, weight)
    result = vjp(source, of="y", wrt="x")
    assert result.graph.initializers["v"].const_value is weight.const_value


def test_only_standard_operators_are_added():
    text = "agraph (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = Mul(x, x)  z = custom.Thing(x) }"
    result = vjp(model(text, imports=', "custom" : 1'), of="y", wrt="x")
    assert [(n.domain, n.op_type) for n in result.graph if n.domain] == [("custom", "Thing")]
    assert result.opset_imports == {"": 21, "custom": 1}


# ----- Which values -----


def test_intermediate_values_are_inputs_and_outputs_alike():
    text = "(float[2] x) => (float[2] y) { a = Mul(x, x)  b = Mul(a, a)  y = Mul(b, x) }"
    found = run(vjp(model(text), of="b", wrt="a"), x=f32(1, 2), cotangent_b=f32(1, 10))
    assert_allclose(found["grad_a"], f32(2, 80))


def test_several_targets_add_up():
    text = "(float[2] x) => (float[2] y, float[2] z) { y = Mul(x, x)  z = Neg(x) }".replace("Neg(x)", "Sub(y, x)")
    found = run(
        vjp(model(text), of=["y", "z"], wrt=["x", "y"]), x=f32(1, 2), cotangent_y=f32(1, 1), cotangent_z=f32(1, 10)
    )
    assert_allclose(found["grad_y"], f32(2, 11))
    assert_allclose(found["grad_x"], f32(2 * 2 - 1, 11 * 4 - 10))


def test_gradient_of_a_value_with_respect_to_itself_is_its_cotangent():
    found = run(vjp(model(CUBE), of="s", wrt="s"), x=f32([1, 2, 3]), cotangent_s=f32([4, 5, 6]))
    assert_allclose(found["grad_s"], f32([4, 5, 6]))


def test_input_can_be_both_target_and_wrt():
    found = run(
        vjp(model(CUBE), of=["x", "y"], wrt="x"),
        x=f32([1, 2, 3]),
        cotangent_x=f32([1, 1, 1]),
        cotangent_y=f32([1, 1, 1]),
    )
    assert_allclose(found["grad_x"], f32([4, 13, 28]))


def test_weights_can_be_differentiated():
    text = "(float[n,2] x) => (float[n,2] y) <float[2] w = {3, 4}> { y = Mul(x, w) }"
    found = run(vjp(model(text), of="y", wrt="w"), x=f32([1, 2], [3, 4]), cotangent_y=f32([1, 1], [1, 1]))
    assert_allclose(found["grad_w"], f32(4, 6))


def test_unconnected_values_get_zeros_of_their_shape():
    text = "(float[n,3] x, float[m,2] z) => (float[n,3] y, float[m,2] w) { y = Mul(x, x)  w = Mul(z, z) }"
    feeds = {"x": np.ones((4, 3), np.float32), "z": np.ones((5, 2), np.float32)}
    found = run(vjp(model(text), of="y", wrt=["z", "w"]), **feeds, cotangent_y=feeds["x"])
    for name in ("grad_z", "grad_w"):
        assert_allclose(found[name], np.zeros((5, 2), np.float32), strict=True)


def test_node_name_stands_for_its_first_output():
    source = model(CUBE)
    source.graph.node[0].name = "square"
    found = run(vjp(source, of="y", wrt="square"), x=f32([1, 2, 3]), cotangent_y=f32([1, 1, 1]))
    assert_allclose(found["grad_square"], f32([1, 2, 3]))


def test_two_names_of_one_value_each_bring_their_cotangent():
    source = model(CUBE)
    source.graph.node[0].name = "square"
    found = run(
        vjp(source, of=["s", "square"], wrt=["s", "square"]),
        x=f32([1, 2, 3]),
        cotangent_s=f32([1, 1, 1]),
        cotangent_square=f32([1, 2, 3]),
    )
    assert_allclose(found["grad_s"], f32([2, 3, 4]))
    assert_allclose(found["grad_square"], f32([2, 3, 4]))


# ----- What is refused -----


def test_unknown_name_is_an_error_with_the_nearest():
    with pytest.raises(LayerError, match="no value or node 'inptu'; the nearest are 'input'"):
        vjp(model("(float[2] input) => (float[2] y) { y = Mul(input, input) }"), of="y", wrt="inptu")


@pytest.mark.parametrize("which", ["of", "wrt"])
def test_integer_value_is_an_error(which):
    text = "(float[2] x, int64[1] i) => (float[2] y, int64[1] j) { y = Mul(x, x)  j = Add(i, i) }"
    names = {"of": "y", "wrt": "x"} | {which: "j" if which == "of" else "i"}
    with pytest.raises(LayerError, match=r"'[ij]' is of type INT64, which has no gradient: name a float value"):
        vjp(model(text), **names)


@pytest.mark.parametrize("name", ["cotangent_y", "grad_x"])
def test_taken_names_are_refused(name):
    text = "(float[2] x, float[2] other) => (float[2] y) { y = Mul(x, other) }".replace("other", name)
    with pytest.raises(OnnxsalError, match=f"an input or output '{name}' already"):
        vjp(model(text), of="y", wrt="x")


def test_inner_values_make_way_for_the_names_of_the_result():
    text = "(float[2] x) => (float[2] y) { grad_x = Mul(x, x)  y = Mul(grad_x, x) }"
    found = run(vjp(model(text), of="y", wrt="x"), x=f32(1, 2), cotangent_y=f32(1, 1))
    assert_allclose(found["grad_x"], f32(3, 12))


# ----- How gradients flow -----


def test_branches_and_diamonds_add_up():
    text = "(float[2] x) => (float[2] y) { a = Mul(x, x)  b = Add(a, x)  c = Mul(a, b)  y = Add(c, a) }"
    # y = x^4 + x^3 + x^2
    found = run(vjp(model(text), of="y", wrt="x"), x=f32(1, 2), cotangent_y=f32(1, 1))
    assert_allclose(found["grad_x"], f32(9, 48))


def test_a_node_that_reads_one_value_twice_counts_both():
    found = run(
        vjp(model("(float[2] x) => (float[2] y) { y = Add(x, x) }"), of="y", wrt="x"),
        x=f32(1, 2),
        cotangent_y=f32(1, 3),
    )
    assert_allclose(found["grad_x"], f32(2, 6))


BROADCASTS = [
    ("float[3] b", (2, 3), (3,)),
    ("float[2,1] b", (2, 3), (2, 1)),
    ("float b", (2, 3), ()),
    ("float[1,1] b", (2, 3), (1, 1)),
    ("float[p,q] b", (2, 3), (2, 3)),
    ("float[p,q] b", (2, 3), (1, 3)),
    ("float[p,q] b", (2, 3), (1, 1)),
    ("float[q] b", (2, 3), (1,)),
    ("float[p,q] b", (1, 3), (2, 1)),
    ("float[p,3] b", (1, 3), (1, 3)),
    ("float[r,p,q] b", (2, 1), (4, 1, 3)),
]


@pytest.mark.parametrize(("second", "a_shape", "b_shape"), BROADCASTS)
def test_broadcasting_is_summed_back_also_where_only_the_run_knows_it(second, a_shape, b_shape):
    rng = np.random.default_rng(0)
    a, b = (np.asarray(rng.standard_normal(s), np.float32) for s in (a_shape, b_shape))
    out = np.broadcast_shapes(a_shape, b_shape)
    dims = ",".join("uvw"[: len(out)])
    g = rng.standard_normal(out).astype(np.float32)
    result = vjp(model(f"(float[n,m] a, {second}) => (float[{dims}] y) {{ y = Mul(a, b) }}"), of="y", wrt=["a", "b"])
    found = run(result, a=a, b=b, cotangent_y=g)
    for name, primal, product in (("grad_a", a, g * b), ("grad_b", b, g * a)):
        extra = tuple(range(product.ndim - primal.ndim))
        repeated = tuple(i + len(extra) for i, d in enumerate(primal.shape) if d == 1)
        expected = product.sum(axis=(*extra, *repeated)).reshape(primal.shape)
        assert_allclose(found[name], expected, rtol=1e-5, strict=True)


@pytest.mark.parametrize(("a_shape", "b_shape"), [((3,), (2, 3)), ((2, 3), (3,)), ((2, 1), (2, 3)), ((), (2, 3))])
def test_broadcasting_is_summed_back_where_not_even_the_number_of_axes_is_known(a_shape, b_shape):
    text = (
        "(float[n] x, int64[p] r, float[m] z, int64[q] s) => (float[k] out) <int64[1] flat = {-1}> "
        "{ a = Reshape(x, r)  b = Reshape(z, s)  y = Add(a, b)  out = Reshape(y, flat) }"
    )
    x, z = (np.ones(int(np.prod(s)), np.float32) for s in (a_shape, b_shape))
    out = np.broadcast_shapes(a_shape, b_shape)
    feeds = {"x": x, "r": np.array(a_shape, np.int64), "z": z, "s": np.array(b_shape, np.int64)}
    found = run(
        vjp(model(text), of="out", wrt=["x", "z"]), **feeds, cotangent_out=np.ones(int(np.prod(out)), np.float32)
    )
    for name, primal in (("grad_x", x), ("grad_z", z)):
        assert_allclose(found[name], np.full(primal.shape, np.prod(out) / primal.size, np.float32), strict=True)


def test_unknown_dimensions_are_not_taken_for_equal():
    text = "(float[?,?] a, float[?,?] b) => (float[?,?] y) { y = Add(a, b) }"
    found = run(
        vjp(model(text), of="y", wrt="b"),
        a=np.ones((4, 3), np.float32),
        b=np.ones((1, 3), np.float32),
        cotangent_y=np.ones((4, 3), np.float32),
    )
    assert_allclose(found["grad_b"], np.full((1, 3), 4, np.float32), strict=True)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (4, 5, 6)])
def test_dynamic_shapes_need_no_second_graph(sizes):
    text = (
        "(float[n,h,w] x) => (float[a,b,c] y) <int64[3] s = {0,0,-1}> "
        "{ t = Transpose<perm=[0,2,1]>(x)  r = Reshape(t, s)  j = Concat<axis=1>(r, t)  y = Mul(j, j) }"
    )
    x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    out = np.concatenate([x, x], 2).transpose(0, 2, 1)
    found = run(vjp(model(text), of="y", wrt="x"), x=x, cotangent_y=np.ones_like(out))
    assert_allclose(found["grad_x"], 4 * x, rtol=1e-6, strict=True)


def test_vjp_of_a_vjp_is_the_second_derivative():
    first = vjp(model(CUBE), of="y", wrt="x")
    first.graph.outputs[-1].name = "slope"
    second = vjp(first, of="slope", wrt=["x", "cotangent_y"])
    x, g, v = f32([1, 2, 3]), f32([1, 10, 100]), f32([1, 1, 2])
    found = run(second, x=x, cotangent_y=g, cotangent_slope=v)
    assert_allclose(found["slope"], 3 * x**2 * g)
    assert_allclose(found["grad_x"], 6 * x * g * v)
    assert_allclose(found["grad_cotangent_y"], 3 * x**2 * v)


def test_model_local_functions_are_seen_through():
    text = """
        agraph (float[n,3] x) => (float[n,3] y) { h = local.cube(x)  y = local.cube(h) }
        <domain: "local", opset_import: ["" : 21]>
        cube (a) => (c) { b = Mul(a, a)  c = Mul(b, a) }
    """
    source = model(text, imports=', "local" : 1')
    found = run(vjp(source, of="y", wrt="x"), x=f32([1, 2, 0.5]), cotangent_y=f32([1, 1, 1]))
    assert_allclose(found["grad_x"], 9 * f32([1, 2, 0.5]) ** 8, rtol=1e-6)


# ----- Types -----


def test_half_precision_gradients_are_computed_in_float32():
    text = "(float16[2] x) => (float16[2] y) { s = Mul(x, x)  y = Mul(s, x) }"
    result = vjp(model(text), of="y", wrt="x")
    # 1e-6 would be a subnormal of float16, its square zero.
    found = run(result, x=np.array([1e-3, 2], np.float16), cotangent_y=f32(1e-3, 1))
    assert found["y"].dtype == np.float16
    assert_allclose(found["grad_x"], f32(3e-9, 12), rtol=2e-3, strict=True)


def test_half_precision_can_be_kept():
    text = "(float16[2] x) => (float16[2] y) { s = Mul(x, x)  y = Mul(s, x) }"
    found = run(
        vjp(model(text), of="y", wrt="x", keep_half=True),
        x=np.array([1, 2], np.float16),
        cotangent_y=np.ones(2, np.float16),
    )
    assert_allclose(found["grad_x"], np.array([3, 12], np.float16), strict=True)


def test_double_stays_double():
    found = run(
        vjp(model(CUBE.replace("float", "double")), of="y", wrt="x"),
        x=np.full((1, 3), 1 + 1e-12),
        cotangent_y=np.ones((1, 3)),
    )
    assert_allclose(found["grad_x"], np.full((1, 3), 3 * (1 + 1e-12) ** 2), rtol=1e-15, strict=True)


def test_bfloat16_gradients_are_computed_in_float32():
    text = "(bfloat16[2] x) => (bfloat16[2] y) { s = Mul(x, x)  y = Mul(s, x) }"
    result = ir.to_proto(vjp(model(text), of="y", wrt="x"))
    onnx.checker.check_model(result, full_check=True)
    # ONNX Runtime's CPU provider has no bfloat16 kernels.
    feeds = {"x": np.array([1, 2], ml_dtypes.bfloat16), "cotangent_y": f32(1, 1)}
    (found,) = onnx.reference.ReferenceEvaluator(result).run(["grad_x"], feeds)
    assert_allclose(found, f32(3, 12), strict=True)


def test_mixed_types_meet_in_a_cast():
    text = "(float16[2] x) => (float[2] y) { c = Cast<to=1>(x)  y = Mul(c, c) }"
    found = run(vjp(model(text), of="y", wrt="x"), x=np.array([1, 2], np.float16), cotangent_y=f32(1, 1))
    assert_allclose(found["grad_x"], f32(2, 4), strict=True)


# ----- Whole models -----


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models_differentiate_and_run(path):
    source = ir.load(path)
    image, scores = image_input(source), source.graph.outputs[0]
    result = vjp(source, of=scores.name, wrt=image.name)
    x = np.random.default_rng(0).random([int(d) for d in image.shape], np.float32)
    g = np.ones([int(d) for d in scores.shape], np.float32)
    g.flat[1:] = 0
    found = run(result, **{image.name: x, f"cotangent_{scores.name}": g})
    assert found[f"grad_{image.name}"].shape == x.shape
    assert np.isfinite(found[f"grad_{image.name}"]).all()


def test_weights_listed_as_inputs_stay_inputs():
    folder = os.environ.get("ONNXSAL_ZOO")
    path = Path(folder or ".") / "models" / "squeezenet1.1_caffe2_fp32.onnx"
    if not (folder and path.exists()):
        pytest.skip("needs the shared models: set ONNXSAL_ZOO to their folder")
    source = ir.load(path)
    assert source.ir_version == 3
    weights = [v.name for v in source.graph.inputs if v.is_initializer()]
    image = image_input(source)
    result = vjp(source, of=source.graph.outputs[0].name, wrt=image.name)
    assert result.ir_version == 3
    assert weights
    assert [v.name for v in result.graph.inputs if v.is_initializer()] == weights
    x = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    g = np.zeros([int(d) for d in source.graph.outputs[0].shape], np.float32)
    g.flat[281] = 1
    found = run(result, **{image.name: x, f"cotangent_{source.graph.outputs[0].name}": g})
    assert np.abs(found[f"grad_{image.name}"]).max() > 0


def test_types_that_only_the_run_knows_are_one_clear_error():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "com.acme" : 1]> agraph (float[2,3] x) => (float[2,3] y)
        { a = com.acme.Swirl(x) b = Mul(a, a) y = Exp(b) }"""
    )
    with pytest.raises(UnsupportedModel, match="the type of 'b' is not known .*symbolic_shape_infer"):
        vjp(model, of="y", wrt="b")
