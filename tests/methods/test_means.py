"""Grad-CAM of a layer that is flattened into a linear one: means of weights in place of a mean of gradients."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

import onnxsal
from onnxsal.autodiff import vjp

FLAT = {
    "by row": ("float[6,36] v", "Gemm<transB=1, alpha=0.5>(f, v)"),
    "by column": ("float[36,6] v", "Gemm<alpha=0.5>(f, v)"),
    "a plain product": ("float[36,6] v", "MatMul(f, v)"),
}


AVERAGED = {
    "pooled": "p = GlobalAveragePool(a)  f = Flatten(p)",
    "reduced": "axes = Constant<value_ints=[2, 3]>()  f = ReduceMean<keepdims=0>(a, axes)",
}


def model(kind: str, rng: np.random.Generator) -> onnx.ModelProto:
    weights, product = FLAT[kind]
    return with_weights(
        f"""<ir_version: 10, opset_import: ["" : 21]> agraph
    (float[n,3,7,7] x, float[4,3,3,3] w, {weights}, float[6,5] u) => (float[n,5] y) {{
      c = Conv<strides=[2,2]>(x, w)  a = Relu(c)  f = Flatten(a)  h = {product}  r = Relu(h)  y = MatMul(r, u) }}""",
        rng,
    )


def averaged(kind: str, rng: np.random.Generator) -> onnx.ModelProto:
    text = f"""<ir_version: 10, opset_import: ["" : 21]> agraph
    (float[n,3,7,7] x, float[16,3,3,3] w, float[16,5] u) => (float[n,5] y) {{
      c = Conv<strides=[2,2]>(x, w)  a = Relu(c)  {AVERAGED[kind]}  y = MatMul(f, u) }}"""
    return with_weights(text, rng)


def with_weights(text: str, rng: np.random.Generator) -> onnx.ModelProto:
    """Return a model with weights in the place of all inputs but the first."""
    made = onnx.parser.parse_model(text)
    while len(made.graph.input) > 1:
        value = made.graph.input.pop()
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = rng.standard_normal(shape).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    return made


def run(graph: ir.Model, **feeds):
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize(("make", "kind"), [(model, k) for k in FLAT] + [(averaged, k) for k in AVERAGED])
def test_grad_cam_weighs_channels_by_their_mean_gradient(make, kind, rng):
    source = make(kind, rng)
    source.graph.output.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, None))
    x = rng.standard_normal((2, 3, 7, 7)).astype(np.float32)
    seed = np.eye(5, dtype=np.float32)[[4, 1]]
    slow = run(vjp(source, of="y", wrt="a"), x=x, cotangent_y=seed)
    expected = (slow["grad_a"].mean((2, 3), keepdims=True) * slow["a"]).sum(1)
    del source.graph.output[1]
    graph = onnxsal.load(source).compile("grad-cam", layer="a", target="0", relu=False)
    assert_allclose(run(graph, x=x, target=np.array([4, 1]))["attribution"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", AVERAGED)
def test_grad_cam_of_an_averaged_layer_spreads_no_gradient(kind, rng):
    graph = onnxsal.load(averaged(kind, rng)).compile("grad-cam", layer="a", target="0").graph
    assert sum(n.op_type in ("AveragePool", "ReduceMean") for n in graph) == (kind == "reduced")  # the model's own


@pytest.mark.parametrize("kind", FLAT)
def test_grad_cam_reads_no_weight_of_the_flattened_layer_twice(kind, rng):
    graph = onnxsal.load(model(kind, rng)).compile("grad-cam", layer="a", target="0").graph
    assert sum(v.name == "v" for node in graph for v in node.inputs if v is not None) == 1
