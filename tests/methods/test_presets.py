"""Other libraries' conventions by name: what is given wins, what a library lacks is refused, the result says whose."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.explainable import loaded, random_input, run

import onnxsal
from onnxsal.errors import MethodError
from onnxsal.methods import find_method, make_method
from onnxsal.methods.presets import PRESETS, with_preset

EVERY = [(like, method) for like, preset in PRESETS.items() for method in preset.methods]


@pytest.mark.parametrize(("like", "method"), EVERY)
def test_a_presets_settings_are_settings_of_the_method(like, method):
    settings = with_preset(like, method, {})
    assert make_method(method, settings) == make_method(method, {k: str(v) for k, v in settings.items()})


def test_a_setting_that_is_given_wins():
    assert with_preset("captum", "smoothgrad", {"samples": 7})["samples"] == 7
    assert with_preset("captum", "smoothgrad", {})["samples"] == 5
    assert with_preset(None, "smoothgrad", {"samples": 7}) == {"samples": 7}


@pytest.mark.parametrize(
    ("like", "method", "message"),
    [
        ("captum", "rise", "like=captum has no rise; it has gradient, grad-x-input, guided-backprop"),
        ("pair", "d-rise", "like=pair has no d-rise; it has gradient, grad-cam, smoothgrad"),
        ("tensorflow", "gradient", "no preset like='tensorflow'; there are captum, pair"),
    ],
)
def test_what_a_library_lacks_is_refused_with_what_it_has(like, method, message):
    with pytest.raises(MethodError, match=message):
        loaded("small").explain(random_input("small", 1), method, like=like)


@pytest.mark.parametrize(
    ("base", "read"),
    [
        (None, "gradient,absolute=true"),
        ("grad-cam", "grad-cam,relu=false"),
        ("grad-cam, relu=true", "grad-cam, relu=true"),
        ("grad-x-input", "grad-x-input"),
        ("cam", "cam"),
    ],
)
def test_smoothgrads_base_follows_the_preset_too(base, read):
    given = {} if base is None else {"base": base}
    assert with_preset("captum", "smoothgrad", given)["base"] == read


def test_the_result_says_whose_conventions_it_follows(tmp_path):
    model, x = loaded("small"), random_input("small", 1)
    for method in ("gradient", "integrated-gradients"):
        assert model.explain(x, method, like="captum").provenance["like"] == "captum"
        assert "like" not in model.explain(x, method).provenance
    *_, (last,) = model.improve(x, "smoothgrad", like="captum")
    assert last.provenance["like"] == "captum"
    assert last.facts()["provenance"]["like"] == "captum"
    assert model.compile("grad-cam", like="captum").metadata_props["onnxsal.like"] == "captum"


def test_a_models_function_follows_a_preset_too():
    model = onnxsal.load(lambda rows: rows.sum(axis=1))
    found = model.explain(np.arange(8.0), "occlusion", like="captum", window=1)
    assert found.settings["stride"] == 1
    assert found.provenance["like"] == "captum"
    with pytest.raises(MethodError, match="like=captum has no rise; it has gradient"):
        model.explain(np.arange(8.0), "rise", like="captum")


# ----- The settings that presets brought along -----


def test_an_absolute_gradient_is_the_gradients_magnitude():
    x = random_input("small", 2)
    plain, absolute = (loaded("small").explain(x, "gradient", 1, absolute=a) for a in (False, True))
    for one, other in zip(plain, absolute, strict=True):
        assert one.attribution.min() < 0
        assert_array_equal(np.abs(one.attribution), other.attribution)
        assert_array_equal(one.heatmap, other.heatmap)


@pytest.mark.parametrize("net", ["small", "any size"])
def test_guided_grad_cam_enlarges_to_the_nearest_cell_on_demand(net):
    model, x = loaded(net), random_input(net, 1)
    found = model.explain(x, "guided-grad-cam", 1, interpolation="nearest")
    cam, guided = (model.explain(x, m, 1).attribution for m in ("grad-cam", "guided-backprop"))
    rows, columns = (np.arange(12) * n // 12 for n in cam.shape)
    assert_allclose(found.attribution, guided * cam[np.ix_(rows, columns)], rtol=1e-4, atol=1e-7)


def test_a_base_method_takes_settings_of_its_own():
    x = random_input("small", 1)
    quick = {"noise": 0.0, "samples": 1}
    found = loaded("small").explain(x, "smoothgrad", 1, base="grad-cam,relu=false", **quick)
    signed = loaded("small").explain(x, "grad-cam", 1, relu=False)
    assert_allclose(found.attribution, signed.attribution, rtol=1e-5, atol=1e-7)
    for base, message in {
        "grad-cam,relu": "write base=grad-cam,relu=false",
        "grad-cam,rleu=false": "grad-cam has no setting 'rleu'",
        "grad-cam,relu=perhaps": "relu='perhaps' is not true or false",
    }.items():
        with pytest.raises(MethodError, match=message):
            loaded("small").explain(x, "smoothgrad", base=base)


@pytest.mark.parametrize("quadrature", ["riemann-left", "riemann-right", "riemann-middle"])
def test_riemann_sums_are_means_over_equal_steps(quadrature):
    x = random_input("small", 1)
    found = loaded("small").explain(x, "integrated-gradients", 1, steps=5, quadrature=quadrature)
    first = {"riemann-left": 0.0, "riemann-middle": 0.5, "riemann-right": 1.0}[quadrature]
    points = np.concatenate([x * np.float32((k + first) / 5) for k in range(5)])
    gradients = np.stack([e.attribution for e in loaded("small").explain(points, "gradient", 1)])
    assert_allclose(found.attribution, gradients.mean(axis=0) * x[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("quadrature", ["riemann-left", "riemann-middle", "riemann-inclusive", "trapezoid"])
def test_every_quadrature_converges_to_the_change_in_score(quadrature):
    x = random_input("small", 1)
    found = loaded("small").explain(x, "integrated-gradients", 1, steps=400, quadrature=quadrature)
    change = float(run("small", x)[0, 1] - run("small", 0 * x)[0, 1])
    assert float(found.attribution.sum()) == pytest.approx(change, rel=0.02, abs=2e-3)


def test_a_rule_with_both_ends_needs_two_steps():
    with pytest.raises(MethodError, match="steps=1 is below 2"):
        loaded("small").explain(random_input("small", 1), "integrated-gradients", steps=1, quadrature="trapezoid")


def test_occlusion_without_normalisation_is_the_sum_over_windows():
    x = random_input("small", 1)
    quick = {"window": 5, "stride": 3}
    mean, total = (
        loaded("small").explain(x, "occlusion", 1, normalisation=n, **quick).attribution for n in ("windows", "none")
    )
    covered = np.zeros((12, 12))
    for top in (0, 3, 6, 9):
        for left in (0, 3, 6, 9):
            covered[top : top + 5, left : left + 5] += 1
    assert_allclose(total, mean * covered, rtol=1e-5, atol=1e-6)


def test_presets_name_methods_that_there_are():
    assert all(find_method(method).name == method for _, method in EVERY)
