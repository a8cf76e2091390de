"""Each method against its slow rewrite from the paper, and its own axioms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from support import papers

import onnxsal
from onnxsal.errors import MethodError

TARGET = 2
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # float32 against float64


@pytest.fixture(scope="module")
def net():
    return papers.small_network()


@pytest.fixture(scope="module")
def model(net):
    return onnxsal.load(net.model, card={"scale": 1, "mean": 0, "std": 1})


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "rule"), [("gradient", "plain"), ("guided-backprop", "guided"), ("deconvnet", "deconvnet")]
)
def test_backward_methods_follow_their_papers(net, model, x, method, rule):
    found = model.explain(x[None], method, TARGET)
    want = papers.back_to_image(net, x, TARGET, rule)
    assert_allclose(found.attribution, want, **CLOSE)
    heat = np.abs(want).max(0)
    assert_allclose(found.heatmap, heat / heat.max(), **CLOSE)


def test_grad_x_input_is_the_product(net, model, x):
    found = model.explain(x[None], "grad-x-input", TARGET)
    want = papers.back_to_image(net, x, TARGET, "plain") * x
    assert_allclose(found.attribution, want, **CLOSE)
    heat = np.abs(want.sum(0))
    assert_allclose(found.heatmap, heat / heat.max(), **CLOSE)


def test_grad_x_input_of_the_guided_rule_is_the_product_with_guided_backprop(net, model, x):
    found = model.explain(x[None], "grad-x-input", TARGET, rule="guided")
    assert_allclose(found.attribution, papers.back_to_image(net, x, TARGET, "guided") * x, **CLOSE)


def test_grad_cam_follows_its_equations(net, model, x):
    found = model.explain(x[None], "grad-cam", TARGET)
    want = papers.grad_cam(net, x, TARGET)
    assert_allclose(found.attribution, want, **CLOSE)
    assert_allclose(found.heatmap, (heat := papers.enlarge(want, (12, 12))) / heat.max(), **CLOSE)


def test_odam_follows_its_equation(net, model, x):
    assert_allclose(model.explain(x[None], "odam", TARGET).attribution, papers.odam(net, x, TARGET), **CLOSE)


def test_cam_follows_its_equation(net, model, x):
    found = model.explain(x[None], "cam", TARGET)
    assert_allclose(found.attribution, papers.cam(net, x, TARGET), **CLOSE)


def test_cam_is_the_layers_area_times_grad_cam_before_the_relu(model, x):
    cam = model.explain(x[None], "cam", TARGET).attribution
    grad_cam = model.explain(x[None], "grad-cam", TARGET, relu=False).attribution
    assert_allclose(cam, cam.size * grad_cam, rtol=1e-5, atol=1e-7)


def test_guided_grad_cam_is_the_product_of_both(net, model, x):
    found = model.explain(x[None], "guided-grad-cam", TARGET)
    want = papers.back_to_image(net, x, TARGET, "guided") * papers.enlarge(papers.grad_cam(net, x, TARGET), (12, 12))
    assert_allclose(found.attribution, want, **CLOSE)


def test_a_contrast_is_the_difference_of_two_gradients(model, x):
    one, two = (model.explain(x[None], "gradient", t).attribution for t in (1, 3))
    found = model.explain(x[None], "gradient", "1-3")
    assert_allclose(found.attribution, one - two, **CLOSE)
    logits = [p.score for p in sorted(found.predictions, key=lambda p: p.index)]
    assert found.score == pytest.approx(logits[1] - logits[3], rel=1e-4)


def test_a_probability_has_the_softmaxes_gradient(net, model, x):
    logits = papers.forward(net, x)["logits"]
    p = np.exp(logits) / np.exp(logits).sum()
    gradients = np.stack([papers.back_to_image(net, x, t, "plain") for t in range(4)])
    want = p[TARGET] * (gradients[TARGET] - np.tensordot(p, gradients, 1))
    found = model.explain(x[None], "gradient", f"prob:{TARGET}")
    assert_allclose(found.attribution, want, rtol=1e-3, atol=1e-6)
    assert found.score == pytest.approx(p[TARGET], rel=1e-4)


def test_a_neurons_gradient_is_its_own(net, model, x):
    f = papers.forward(net, x)
    g = np.zeros_like(f["c2"])
    g[3, 1, 4] = 1
    back = papers.conv_transposed(g, net.w["w2"])
    back = papers.rectify("plain", papers.unpool(back, f["switches"]), f["c1"])
    found = model.explain(x[None], "gradient", "layer:c2,channel=3,at=1,4")
    assert_allclose(found.attribution, papers.conv_transposed(back, net.w["w1"]), **CLOSE)
    assert found.score == pytest.approx(f["c2"][3, 1, 4], rel=1e-4)


def test_a_channels_score_is_the_sum_of_its_neurons(net, model, x):
    found = model.explain(x[None], "gradient", "layer:a2,channel=3")
    assert found.score == pytest.approx(papers.forward(net, x)["a2"][3].sum(), rel=1e-4)


def test_top_three_are_the_three_best_classes_best_first(net, model, x):
    found = model.explain(x[None], "gradient", "top:3")
    assert [e.target.index for e in found] == list(np.argsort(-papers.forward(net, x)["logits"])[:3])


def test_a_batch_gives_each_sample_what_it_gets_alone(model, rng):
    batch = rng.standard_normal((5, 3, 12, 12)).astype(np.float32)
    together = model.explain(batch, "guided-grad-cam", batch_size=2)
    for x, found in zip(batch, together, strict=True):
        assert_allclose(found.attribution, model.explain(x[None], "guided-grad-cam").attribution, rtol=1e-4, atol=1e-7)


def test_guided_backprop_refuses_a_network_without_rectifiers():
    model = papers.small_network().model
    for node in model.graph.node:
        node.op_type = node.op_type.replace("Relu", "Tanh")
    loaded = onnxsal.load(model)
    with pytest.raises(MethodError, match="plain gradient under another name"):
        loaded.explain(np.ones((1, 3, 12, 12), np.float32), "guided-backprop")
