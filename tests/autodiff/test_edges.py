"""Where gradients end: at what has none, what has no elements, what is masked."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import vjp
from onnxsal.errors import MissingRule


def model(text: str, opset: int = 21) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> agraph {text}')


def run(graph: ir.Model, **feeds) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def f32(*values) -> np.ndarray:
    return np.array(values, np.float32)


def test_what_has_no_gradient_is_refused_with_the_reason():
    text = """(float[1,1,4,4] x, float[4] s) => (float[1,1,h,w] y) { y = Resize<mode="linear">(x, "", s) }"""
    with pytest.raises(MissingRule, match=r"Resize, input 'scales', node 'y' \(sizes are not differentiated: compute"):
        vjp(model(text), of="y", wrt="s")
    vjp(model(text), of="y", wrt="x")


def test_bits_have_no_gradient():
    text = "(float[3] x) => (float[3] y) { b = BitCast<to=6>(x) f = Cast<to=1>(b) y = Mul(f, x) }"
    with pytest.raises(MissingRule, match="BitCast, input 'input', node 'b' \\(its bits are read as another type's"):
        vjp(model(text, opset=26), of="y", wrt="x")


def test_a_reduction_of_nothing_has_a_gradient_of_no_elements():
    text = "(float[2,0,4] x) => (float[2,1,4] y) <int64[1] k = {1}> { y = ReduceLogSum(x, k) }"
    found = run(
        vjp(model(text), of="y", wrt="x"), x=np.zeros((2, 0, 4), np.float32), cotangent_y=np.ones((2, 1, 4), np.float32)
    )
    assert found["grad_x"].shape == (2, 0, 4)


def test_a_row_that_attention_masks_wholly_gets_no_gradient():
    text = """(float[2,3] x) => (float[2,3] y) <float[2,3] m = {-inf,-inf,-inf,0,0,0}> {
        z = Add(x, m) s = Softmax(z) n = IsNaN(s) o = Sub(x, x) y = Where(n, o, s) }"""
    x = f32([0, 1, 2], [3, 4, 5])
    found = run(vjp(model(text), of="y", wrt="x"), x=x, cotangent_y=f32([1, 2, 3], [1, 2, 3]))
    assert_allclose(found["grad_x"][0], 0)
    assert np.abs(found["grad_x"][1]).max() > 0.1


def test_a_slice_of_nothing_has_a_gradient_of_zeros():
    text = (
        "(float[4,3,2] x, int64[1] s, int64[1] e, int64[1] k, int64[1] n) => (float[4,0,2] y) { y = Slice(x,s,e,k,n) }"
    )
    feeds = {name: np.array([number]) for name, number in (("s", 3), ("e", 9), ("k", 1), ("n", 1))}
    x, nothing = np.ones((4, 3, 2), np.float32), np.ones((4, 0, 2), np.float32)
    found = run(vjp(model(text), of="y", wrt="x"), x=x, cotangent_y=nothing, **feeds)
    assert_allclose(found["grad_x"], np.zeros((4, 3, 2)))


EMPTY = {
    "LRN": ("float[n,c,h,w] x", "LRN<size=3>(x)", (0, 3, 4, 4)),
    "GlobalMaxPool": ("float[n,c,h,w] x", "GlobalMaxPool(x)", (0, 3, 4, 4)),
    "DepthToSpace": ("float[n,c,h,w] x", 'DepthToSpace<blocksize=2,mode="CRD">(x)', (0, 4, 3, 3)),
    "DeformConv": (
        "float[n,c,h,w] x, float[2,2,3,3] w, float[n,o,p,q] f",
        "DeformConv<pads=[1,1,1,1],group=2>(x, w, f)",
        (0, 4, 3, 3),
    ),
    "GridSample": ("float[n,c,h,w] x, float[n,p,q,2] f", "GridSample(x, f)", (0, 3, 4, 4)),
    "RotaryEmbedding": (
        "float[n,s,d] x, float[n,s,h] f",
        "RotaryEmbedding<num_heads=2,interleaved=1>(x, f, f)",
        (0, 4, 12),
    ),
}
OTHERS = {"DeformConv": (0, 18, 3, 3), "GridSample": (0, 5, 5, 2), "RotaryEmbedding": (0, 4, 3)}


@pytest.mark.parametrize("name", EMPTY)
def test_a_batch_of_nothing_has_a_gradient_of_nothing_where_no_size_is_known(name):
    given, call, shape = EMPTY[name]
    text = f"({given}) => (float y) {{ y = {call} }}"
    graph = model(text, opset=23)
    graph.graph.output[0].type.tensor_type.ClearField("shape")
    feeds = {"x": np.zeros(shape, np.float32), "f": np.zeros(OTHERS.get(name, ()), np.float32)}
    feeds["w"] = np.ones((2, 2, 3, 3), np.float32)
    feeds = {i.name: feeds[i.name] for i in graph.graph.input}
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, feeds)
    found = run(vjp(graph, of="y", wrt=list(feeds)), **feeds, cotangent_y=y)
    assert {n: found[f"grad_{n}"].shape for n in feeds} == {n: a.shape for n, a in feeds.items()}
