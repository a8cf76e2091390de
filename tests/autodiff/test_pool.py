"""Poolings where differences cannot go: at ties, in half precision, and what only ONNX Runtime has."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.derivatives import run

from onnxsal.autodiff import vjp

TEXT = '<ir_version: 10, opset_import: ["" : 21]> agraph '


def gradient(text, x, g):
    model = ir.to_proto(vjp(onnx.parser.parse_model(TEXT + text), of="y", wrt="x"))
    return run(model, {"x": x, "cotangent_y": g}, ["grad_x"], "ort")[0]


def first_takes_all(x, g, kernel, stride, pad):
    """Send each cotangent to the first of the largest entries of its window, row by row."""
    grad = np.zeros_like(x)
    for n, c, i, j in np.ndindex(g.shape):
        top, left = i * stride - pad[0], j * stride - pad[1]
        rows = range(max(top, 0), min(top + kernel[0], x.shape[2]))
        columns = range(max(left, 0), min(left + kernel[1], x.shape[3]))
        row, column = max(((r, k) for r in rows for k in columns), key=lambda at: x[(n, c, *at)])
        grad[n, c, row, column] += g[n, c, i, j]
    return grad


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 3, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
@pytest.mark.parametrize("sizes", ["2,3,9,7", "n,c,h,w"])
def test_the_first_of_several_maxima_takes_the_cotangent(kernel, stride, pad, sizes, rng):
    x = np.float32(rng.integers(-1, 2, (2, 3, 9, 7)))
    g = rng.standard_normal((2, 3, *((s + 2 * pad - kernel) // stride + 1 for s in (9, 7)))).astype(np.float32)
    attributes = f"kernel_shape=[{kernel},{kernel}],strides=[{stride},{stride}],pads=[{pad},{pad},{pad},{pad}]"
    text = f"(float[{sizes}] x) => (float[n,c,p,q] y) {{ y = MaxPool<{attributes}>(x) }}"
    # Where windows overlap, the order of a sum may differ.
    np.testing.assert_allclose(
        gradient(text, x, g), first_takes_all(x, g, [kernel] * 2, stride, [pad] * 2), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("size", [(8, 12), (2, 4)])
@pytest.mark.parametrize(
    ("kernel", "pads", "ceil"),
    [
        ([2, 2], [0, 0, 0, 0], 0),
        ([3, 3], [1, 1, 1, 1], 0),
        ([3, 3], [0, 0, 0, 0], 1),
        ([3, 3], [0, 0, 1, 1], 0),
        ([3, 2], [1, 0, 0, 0], 0),
        ([1, 3], [0, 1, 0, 1], 0),
        ([1, 1], [0, 0, 0, 0], 0),
    ],
)
@pytest.mark.parametrize("highest", [-1, 0, 2])
def test_the_first_of_several_maxima_takes_the_cotangent_in_blocks_of_channels(size, kernel, pads, ceil, highest, rng):
    x = np.float32(rng.integers(highest - 3, highest + 1, (2, 16, *size)))
    count = [
        -(-total // 2) + 1 if ceil else total // 2 + 1
        for total in (s + pads[i] + pads[i + 2] - kernel[i] for i, s in enumerate(size))
    ]
    g = rng.standard_normal((2, 16, *count)).astype(np.float32)
    attributes = f"kernel_shape={kernel},strides=[2,2],pads={pads},ceil_mode={ceil}"
    # A convolution ahead of it, so that ONNX Runtime has it in blocks.
    text = f"(float[n,16,{size[0]},{size[1]}] i, float[16,16,1,1] w) => (float[n,c,p,q] y)"
    text += f" {{ x = Conv(i, w) y = MaxPool<{attributes}>(x) }}"
    model = ir.to_proto(vjp(onnx.parser.parse_model(TEXT + text), of="y", wrt="x"))
    feeds = {"i": x, "w": np.eye(16, dtype=np.float32)[:, :, None, None], "cotangent_y": g}
    (grad,) = run(model, feeds, ["grad_x"], "ort")
    np.testing.assert_allclose(grad, first_takes_all(x, g, kernel, 2, pads), rtol=1e-6, atol=1e-6)
    assert "ScatterElements" not in {n.op_type for n in model.graph.node}


def test_ties_of_zeros_behind_a_relu_count_once(rng):
    text = "(float[1,2,6,6] x) => (float[1,2,3,3] y) { r = Relu(x) y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) }"
    model = ir.to_proto(vjp(onnx.parser.parse_model(TEXT + text), of="y", wrt="r"))
    feeds = {"x": np.full((1, 2, 6, 6), -1), "cotangent_y": np.ones((1, 2, 3, 3))}
    (grad,) = run(model, {k: np.float32(v) for k, v in feeds.items()}, ["grad_r"], "ort")
    assert grad[0, 0, ::2, ::2].tolist() == [[1, 1, 1]] * 3
    assert grad.sum() == 18


def test_the_first_of_several_global_maxima_takes_the_cotangent():
    x = np.float32([[[[0, 5, 1], [5, 5, 2]], [[3, 3, 3], [3, 3, 3]]]])
    text = "(float[1,2,2,3] x) => (float[1,2,1,1] y) { y = GlobalMaxPool(x) }"
    grad = gradient(text, x, np.float32([7, 9]).reshape(1, 2, 1, 1))
    assert grad.tolist() == [[[[0, 7, 0], [0, 0, 0]], [[9, 0, 0], [0, 0, 0]]]]


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool_is_lp_pool_over_everything(p, rng):
    x, g = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 1, 1))
    whole = gradient(f"(float[2,3,4,5] x) => (float[2,3,1,1] y) {{ y = GlobalLpPool<p={p}>(x) }}", x, g)
    windows = gradient(
        f"(float[2,3,4,5] x) => (float[2,3,1,1] y) {{ y = LpPool<p={p},kernel_shape=[4,5],strides=[1,1]>(x) }}", x, g
    )
    np.testing.assert_allclose(whole, windows, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_norm_of_nothing_has_slope_zero(p):
    text = f"(float[1,1,2,2] x) => (float[1,1,1,1] y) {{ y = LpPool<p={p},kernel_shape=[2,2]>(x) }}"
    assert not gradient(text, np.zeros((1, 1, 2, 2)), np.ones((1, 1, 1, 1))).any()


@pytest.mark.parametrize(
    "pool",
    [
        "MaxPool<kernel_shape=[2,2],strides=[2,2]>",
        "MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>",
        "AveragePool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>",
        "AveragePool<kernel_shape=[2,2],strides=[2,2]>",
        "GlobalMaxPool",
        "GlobalAveragePool",
    ],
)
@pytest.mark.parametrize("keep_half", [False, True])
def test_half_precision_models_have_float32_gradients_unless_asked(pool, keep_half, rng):
    text = f"({{t}}[1,2,6,6] x) => ({{t}}[1,2,p,q] y) {{{{ y = {pool}(x) }}}}"
    x = rng.permutation(72).reshape(1, 2, 6, 6).astype(np.float16)
    g = rng.standard_normal((1, 2, 1, 1) if "Global" in pool else (1, 2, 3, 3))
    half = onnx.parser.parse_model(TEXT + text.format(t="float16"))
    model = ir.to_proto(vjp(half, of="y", wrt="x", keep_half=keep_half))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (grad,) = session.run(["grad_x"], {"x": x, "cotangent_y": g.astype(np.float16 if keep_half else np.float32)})
    expected = gradient(text.format(t="float"), x.astype(np.float32), g)
    np.testing.assert_allclose(grad, expected, rtol=1e-2 if keep_half else 1e-6, atol=1e-6)
