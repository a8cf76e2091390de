"""Numbers of maps: channels, sizes, scales."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal import maps
from onnxsal.errors import MethodError

SIZES = [
    ((7, 7), (224, 224)),
    ((3, 5), (17, 11)),
    ((1, 4), (6, 9)),
    ((9, 8), (4, 5)),
    ((5, 5), (5, 5)),
    ((64, 48), (7, 13)),
]


def resize_in_onnx_runtime(heatmap, size):
    """The slow rewrite: ONNX's own operator."""
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1,1,h,w] x, int64[4] s) => (float[1,1,H,W] y) '
        '{ y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , , s) }'
    )
    session = ort.InferenceSession(
        onnx.parser.parse_model(text).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": heatmap[None, None], "s": np.array([1, 1, *size])})[0][0, 0]


@pytest.mark.parametrize(("source", "size"), SIZES, ids=str)
def test_enlarging_agrees_with_onnx_runtime(source, size, rng):
    heatmap = rng.normal(size=source).astype(np.float32)
    # ONNX Runtime computes where to read in float32, which on 64 pixels is off by some 1e-6.
    assert_allclose(maps.enlarge(heatmap, size), resize_in_onnx_runtime(heatmap, size), atol=2e-5)


def test_shrinking_keeps_the_mean_and_enlarging_is_shared(rng):
    heatmap = rng.random((60, 60)).astype(np.float32)
    assert_allclose(maps.shrink(heatmap, (6, 6)).mean(), heatmap.mean(), rtol=0.02)
    assert_allclose(maps.shrink(heatmap, (90, 70)), maps.enlarge(heatmap, (90, 70)))


def test_stacks_are_resized_one_by_one(rng):
    stack = rng.random((2, 3, 4, 5)).astype(np.float32)
    assert_allclose(maps.enlarge(stack, (9, 9))[1, 2], maps.enlarge(stack[1, 2], (9, 9)), rtol=1e-6)


def test_scaling_divides_by_the_largest_magnitude_and_keeps_signs():
    heatmap = np.array([[[1.0, -4.0]], [[0.5, 0.25]]])
    assert_allclose(maps.scale_to_unit(heatmap), [[[0.25, -1.0]], [[1.0, 0.5]]])


def test_scaling_is_not_min_max():
    assert_allclose(maps.scale_to_unit(np.full((2, 2), 3.0)), np.ones((2, 2)))


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_a_map_of_nothing_stays_nothing(value):
    nothing = np.full((2, 3), value, np.float32)
    assert not maps.scale_to_unit(nothing).any()
    assert not maps.clip_percentile(nothing).any()


def test_reductions_over_channels():
    attribution = np.array([3.0, -4.0]).reshape(2, 1, 1)
    got = {how: maps.reduce_channels(attribution, how).item() for how in maps.REDUCTIONS}
    assert got == {"max_abs": 4, "sum_abs": 7, "l2": 5, "sum": -1, "positive": 0}


def test_reductions_take_any_channel_axis(rng):
    attribution = rng.normal(size=(2, 3, 4, 5))
    last = attribution.transpose(0, 2, 3, 1)
    assert_allclose(maps.reduce_channels(attribution, axis=1), maps.reduce_channels(last, axis=-1))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(MethodError, match="no reduction 'median'; there are max_abs"):
        maps.reduce_channels(np.zeros((1, 2, 2)), "median")


def test_clipping_lets_the_many_be_seen_beside_the_few():
    heatmap = np.full((100, 100), 1.0)
    heatmap[0, 0], heatmap[0, 1] = 1000.0, -1000.0
    clipped = maps.clip_percentile(heatmap, 99)
    assert (clipped[0, 0], clipped[0, 1], clipped[5, 5]) == (1, -1, 1)


def test_a_single_spot_survives_clipping():
    heatmap = np.zeros((100, 100))
    heatmap[50, 50] = 5.0
    assert maps.clip_percentile(heatmap, 99.5)[50, 50] == 1
    assert maps.clip_percentile(heatmap, 99.5).sum() == 1
