"""Every method keeps the same promises, on every network it fits."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support import explainable, papers
from support.explainable import PAIRS, UNFIT, loaded, random_input

import onnxsal
from onnxsal.errors import MethodError
from onnxsal.methods import methods

everywhere = pytest.mark.parametrize(("method", "net"), PAIRS)
AS_GIVEN = {"scale": 1, "mean": 0, "std": 1}
LOOSE = {"half precision": 2e-3}  # float16 has eleven bits


def relative(value, reference) -> float:
    return float(np.abs(value - reference).max() / max(np.abs(reference).max(), 1e-30))


def is_like_image(explanation: onnxsal.Explanation, x: np.ndarray) -> bool:
    return explanation.attribution.shape == x.shape[1:]


@everywhere
def test_one_finite_map_per_sample_in_zero_to_one(method, net):
    x = random_input(net, 3)
    found = loaded(net).explain(x, method)
    size = x.shape[1:3] if net == "channels last" else x.shape[2:]
    assert len(found) == 3
    for explanation in found:
        assert explanation.attribution.dtype == explanation.heatmap.dtype == np.float32
        assert np.isfinite(explanation.attribution).all()
        assert is_like_image(explanation, x) or explanation.attribution.ndim == 2
        assert explanation.heatmap.shape == size
        assert explanation.heatmap.min() >= 0
        assert explanation.heatmap.max() in (0, 1)
    assert any(explanation.heatmap.any() for explanation in found)


@everywhere
def test_same_input_same_map(method, net):
    x = random_input(net, 2)
    once = loaded(net).explain(x, method)
    for model in (loaded(net), explainable.load(net)):
        for one, again in zip(once, model.explain(x, method), strict=True):
            assert_array_equal(one.attribution, again.attribution)
            assert_array_equal(one.heatmap, again.heatmap)
            assert one.facts() == again.facts()


@everywhere
def test_batching_changes_nothing(method, net):
    x = random_input(net, 5)
    together = loaded(net).explain(x, method, batch_size=2)
    for row, found in zip(x, together, strict=True):
        alone = loaded(net).explain(row[None], method)
        assert found.target == alone.target
        assert found.score == pytest.approx(alone.score, rel=LOOSE.get(net, 1e-4), abs=1e-6)
        assert relative(found.attribution, alone.attribution) <= LOOSE.get(net, 1e-5)
        assert np.abs(found.heatmap - alone.heatmap).max() <= LOOSE.get(net, 1e-5)


@everywhere
def test_the_top_class_is_explained_unless_another_is_named(method, net):
    x = random_input(net, 1)
    found = loaded(net).explain(x, method)
    best = loaded(net).predict(x)[0]
    named = loaded(net).explain(x, method, best.index)
    assert found.target.index == best.index
    assert found.score == named.score == best.score
    assert_array_equal(found.attribution, named.attribution)
    assert (loaded(net).explain(x, method, int(best.index == 0)).attribution != found.attribution).any()


@pytest.mark.parametrize(("method", "net"), UNFIT)
def test_a_method_that_does_not_fit_says_why_and_inspect_says_the_same(method, net):
    with pytest.raises(MethodError, match=UNFIT[method, net]) as caught:
        loaded(net).explain(random_input(net, 1), method)
    verdict = next(v for v in loaded(net).inspect().methods if v.method == method)
    assert not verdict.works
    assert verdict.reason == str(caught.value)


# ----- Zero where the target cannot see -----


@pytest.fixture(scope="module")
def blind():
    return onnxsal.load(explainable.blind(), card=AS_GIVEN)


@pytest.mark.parametrize("method", methods(sampled=False))
def test_a_map_is_zero_where_the_network_multiplies_the_image_by_zero(blind, rng, method):
    x = rng.standard_normal((2, 3, 12, 12)).astype(np.float32)
    seen = 0
    for explanation in blind.explain(x, method, 0):
        if is_like_image(explanation, x):
            assert not explanation.attribution[:, :, :6].any()
            assert not explanation.heatmap[:, :6].any()
            assert explanation.heatmap[:, 6:].any()
            seen += 1
    assert seen == (0 if method in ("cam", "grad-cam", "odam") else 2)


@pytest.mark.parametrize("method", ["gradient", "grad-x-input", "guided-backprop", "deconvnet"])
@pytest.mark.parametrize(("at", "rows", "columns"), [((3, 5), (2, 5), (4, 7)), ((0, 11), (0, 2), (10, 12))])
def test_a_neurons_map_is_zero_outside_its_receptive_field(rng, method, at, rows, columns):
    x = rng.standard_normal((3, 12, 12)).astype(np.float32)
    target = f"layer:a1,channel=2,at={at[0]},{at[1]}"
    proto = papers.small_network().model
    bias = next(t for t in proto.graph.initializer if t.name == "b1")
    bias.CopyFrom(
        onnx.numpy_helper.from_array(np.full(5, 100, np.float32), "b1")
    )  # a neuron that is off has no gradient
    found = onnxsal.load(proto, card=AS_GIVEN).explain(x[None], method, target)
    field = np.zeros((12, 12), bool)
    field[slice(*rows), slice(*columns)] = True
    assert not found.heatmap[~field].any()
    assert found.heatmap[field].all()


# ----- In photo coordinates -----


@pytest.mark.parametrize("method", methods(sampled=False))
@pytest.mark.parametrize(
    ("card", "outside"),
    [
        ({"resize": "stretch"}, None),
        ({"resize": "letterbox", "pad_value": 114}, None),
        ({"resize": "shortest_edge", "resize_to": 12, "crop": "center"}, np.s_[:, [*range(7), *range(42, 49)]]),
    ],
    ids=["stretch", "letterbox", "crop"],
)
def test_a_heatmap_is_as_large_as_the_photo_and_zero_where_the_model_did_not_see_it(rng, method, card, outside):
    photos = [rng.integers(0, 256, (31, 49, 3), np.uint8), rng.integers(0, 256, (31, 49, 3), np.uint8)]
    known = {"scale": 1 / 255, "mean": 0.5, "std": 0.25, "channels": "RGB", "size": [12, 12]}
    model = onnxsal.load(papers.small_network().model, card=known | card)
    for photo, found in zip(photos, model.explain(photos, method), strict=True):
        assert found.heatmap.shape == photo.shape[:2]
        assert found.heatmap.dtype == np.float32
        assert found.heatmap.min() >= 0
        assert found.heatmap.max() <= 1
        assert found.overlay().size == (49, 31)
        if outside is not None:
            assert not found.heatmap[outside].any()


def test_half_precision_explains_as_its_model_in_single_precision_does():
    x = random_input("half precision", 2)
    single = explainable.fill(papers.TEXT)
    for tensor, half in zip(
        single.graph.initializer, explainable.proto("half precision").graph.initializer, strict=True
    ):
        array = onnx.numpy_helper.to_array(half).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    model = onnxsal.load(single, card=AS_GIVEN)
    for method in methods(sampled=False):
        both = zip(
            loaded("half precision").explain(x, method, 1), model.explain(x.astype(np.float32), method, 1), strict=True
        )
        for half, full in both:
            assert_allclose(half.heatmap, full.heatmap, atol=0.02)
