"""The grid of GridSample: its differences need double precision, and ONNX Runtime's dealing with the outside."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.derivatives import run

from onnxsal.autodiff import vjp

STEP = 1e-6


def model(text, element):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text.replace("T[", element)}')


def in_double(text, feeds):
    proto = model(text, "double[")
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def compare(text, shapes, rng):
    feeds = {"x": rng.standard_normal(shapes[0]), "grid": rng.uniform(-1.7, 1.7, shapes[1])}
    tangent = rng.standard_normal(shapes[1])
    ahead, behind = (in_double(text, feeds | {"grid": feeds["grid"] + s * STEP * tangent}) for s in (1, -1))
    g = rng.standard_normal(ahead.shape)
    graph = ir.to_proto(vjp(model(text, "float["), of="y", wrt="grid"))
    (grad,) = run(graph, feeds | {"cotangent_y": g}, ["grad_grid"], "ort")
    assert grad.shape == shapes[1]
    assert np.sum(grad * tangent) == pytest.approx(np.sum(g * (ahead - behind)) / (2 * STEP), rel=1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_gets_the_slopes(mode, padding, align, rng):
    text = (
        "(T[2,3,4,5] x, T[2,3,4,2] grid) => (T[2,3,3,4] y)"
        f' {{ y = GridSample<mode="{mode}",padding_mode="{padding}",align_corners={align}>(x, grid) }}'
    )
    compare(text, [(2, 3, 4, 5), (2, 3, 4, 2)], rng)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_of_a_volume_gets_the_slopes(padding, rng):
    text = (
        "(T[n,c,d,h,w] x, T[n,p,q,r,3] grid) => (T[] y)"
        f' {{ y = GridSample<mode="linear",padding_mode="{padding}">(x, grid) }}'
    )
    compare(text, [(2, 3, 4, 3, 5), (2, 2, 3, 4, 3)], rng)


def test_nearest_has_no_slope(rng):
    text = '(T[1,1,4,5] x, T[1,2,3,2] grid) => (T[1,1,2,3] y) { y = GridSample<mode="nearest">(x, grid) }'
    feeds = {
        "x": rng.standard_normal((1, 1, 4, 5)),
        "grid": rng.uniform(-1, 1, (1, 2, 3, 2)),
        "cotangent_y": np.ones((1, 1, 2, 3)),
    }
    graph = ir.to_proto(vjp(model(text, "float["), of="y", wrt="grid"))
    (grad,) = run(graph, feeds | {"cotangent_y": np.ones((1, 1, 2, 3))}, ["grad_grid"], "ort")
    assert not grad.any()
