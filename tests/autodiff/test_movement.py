"""Of data movement, what finite differences do not see: ties, types, and which nodes are emitted."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import vjp


def gradients(text, wrt, *, keep_half=False, **feeds):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    proto = ir.to_proto(vjp(model, of="y", wrt=wrt, keep_half=keep_half))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([f"grad_{name}" for name in wrt], feeds)


def emitted(text):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    return {n.op_type for n in vjp(model, of="y", wrt="x").graph} - {n.op_type for n in model.graph.node}


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_scatter_shares_the_cotangent_among_those_that_attain_the_extreme(reduction):
    sign = 1 if reduction == "max" else -1
    text = (
        "(float[3] x, float[3] u) => (float[3] y) <int64[3] i = {0,0,1}> "
        f'{{ y = ScatterElements<reduction="{reduction}">(x, i, u) }}'
    )
    x, u = sign * np.float32([2, 1, 5]), sign * np.float32([2, 2, 3])
    of_x, of_u = gradients(text, ["x", "u"], x=x, u=u, cotangent_y=np.float32([3, 4, 5]))
    assert_allclose(of_x, [1, 0, 5])
    assert_allclose(of_u, [1, 1, 4])


HALF = [
    "(float16[3,4] x, int64[2] i) => (float16[3,2] y) { y = Gather<axis=1>(x, i) }",
    "(float16[3,4] x, int64[2] i) => (float16[2] y) <int64 c = {0}> { z = Gather(x, c) y = GatherElements(z, i) }",
    '(float16[3,4] x, int64[2] i) => (float16[5,4] y) <int64[4] p = {1,0,1,0}> { y = Pad<mode="edge">(x, p) }',
    "(float16[3,4] x, int64[2] i) => (float16[3,2] y) <int64[1] k = {2}> { y, j = TopK(x, k) }",
]


@pytest.mark.parametrize("keep_half", [False, True])
@pytest.mark.parametrize("text", HALF)
def test_half_precision_runs(text, keep_half):
    x = np.arange(12, dtype=np.float16).reshape(3, 4)
    dims = [int(d) for d in text[text.index("=> (float16[") + 12 :].split("]")[0].split(",")]
    feeds = {"x": x, "i": np.array([1, 1]), "cotangent_y": np.ones(dims, np.float16 if keep_half else np.float32)}
    (found,) = gradients(text, ["x"], keep_half=keep_half, **feeds)
    assert found.dtype == feeds["cotangent_y"].dtype
    assert found.sum() == np.prod(dims)


SCATTER_FREE = [
    "(float[n,t,c] x) => (float[n,c] y) <int64 i = {0}> { y = Gather<axis=1>(x, i) }",
    "(float[3,n,c] x) => (float[n,c] y) <int64 i = {-1}> { y = Gather(x, i) }",
    "(float[n,6] x) => (float[n,6] y) <int64[6] i = {0,3,1,4,2,5}> { y = Gather<axis=1>(x, i) }",
    "(float[n,h,w] x) => (float[n,h,b] y) <int64[1] s = {2}, int64[1] e = {9}> { y = Slice(x, s, e, s, s) }",
    "(float[n,c,h,w] x) => (float[n,c,a,b] y) <int64[8] p = {0,0,1,1,0,0,2,2}> { y = Pad(x, p) }",
    "(float[n,c] x) => (float[a,b] y) <int64[2] r = {2,3}> { y = Tile(x, r) }",
]


@pytest.mark.parametrize("text", SCATTER_FREE)
def test_constant_indices_need_no_scatter(text):
    assert not {name for name in emitted(text) if name.startswith(("Scatter", "Range"))}


def test_empty_batch_runs():
    text = "(float[n,c,7] x) => (float[a,b,3] y) <int64[1] s = {2}, int64[1] e = {9}> { y = Slice(x, s, e, s, s) }"
    g = np.zeros((0, 2, 3), np.float32)
    (found,) = gradients(text, ["x"], x=np.zeros((0, 2, 7), np.float32), cotangent_y=g)
    assert found.shape == (0, 2, 7)


@pytest.mark.parametrize("start", ["float[n,m,4] x, int64[1] b", "float[n,m,4] x"], ids=["run time", "constant"])
def test_padding_between_transposes_survives_the_runtime_that_moves_these(start):
    # ONNX Runtime moves a Transpose past a Pad as if the Pad had no `axes`.
    text = (
        f"({start}) => (float[n,k,4] y) <int64[1] b = {{1}}, int64[1] e = {{9}}, int64[1] a = {{2}}> "
        "{ t = Transpose<perm=[0,2,1]>(x) s = Slice(t, b, e, a) y = Transpose<perm=[0,2,1]>(s) }"
    )
    g = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    feeds = {"b": np.array([1])} if "b" in start.split() else {}
    if feeds:
        text = text.replace("int64[1] b = {1}, ", "")
    (found,) = gradients(text, ["x"], x=np.ones((2, 3, 4), np.float32), cotangent_y=g, **feeds)
    assert_allclose(found, np.pad(g, [(0, 0), (1, 0), (0, 0)]))
