"""Methods of many runs: each against a slow rewrite from its paper, and the promises they share."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support import explainable
from support.explainable import fill, loaded, open_session, random_input, replaced, run

import onnxsal
from onnxsal.errors import MethodError, OnnxsalError
from onnxsal.explanation.fills import make_fill
from onnxsal.explanation.spaces import square_space
from onnxsal.methods import methods
from onnxsal.sampling.designs import Independent
from onnxsal.sampling.masks import all_windows, rise_space

QUICK = {
    "smoothgrad": {"samples": 12},
    "integrated-gradients": {"steps": 12},
    "rise": {"samples": 150},
    "occlusion": {"window": 4, "stride": 2},
    "score-cam": {},
}
NETS = ["small", "channels last", "bytes", "half precision", "batch of one", "any size", "vit"]
everywhere = pytest.mark.parametrize(("method", "net"), [(m, n) for m in QUICK for n in NETS if n in explainable.NETS])


def explain(net, x, method, target=None, **settings):
    return loaded(net).explain(x, method, target, **QUICK.get(method, {}) | settings)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# ----- What they share -----


def test_every_method_of_many_runs_is_tried_here():
    assert set(QUICK) == set(methods(sampled=True)) - {"d-rise"}


@everywhere
def test_one_finite_map_per_image_in_zero_to_one(method, net):
    x = random_input(net, 2)
    found = explain(net, x, method)
    assert len(found) == 2
    for explanation in found:
        assert explanation.attribution.dtype == explanation.heatmap.dtype == np.float32
        assert np.isfinite(explanation.attribution).all()
        assert explanation.heatmap.min() >= 0
        assert explanation.heatmap.max() in (0, 1)
        assert explanation.error is None or explanation.error.shape == explanation.attribution.shape


@pytest.mark.parametrize("method", ["rise", "occlusion", "score-cam"])
def test_a_batch_that_is_fixed_to_more_than_one_is_filled_up(method):
    """Of 150 masks the last run has two."""
    fixed = onnxsal.load(explainable.fill(explainable.replaced(("float[N,", "float[4,"))))
    x = random_input("small", 1)
    found, want = fixed.explain(x, method, 1, **QUICK[method]), explain("small", x, method, 1)
    assert_allclose(found.attribution, want.attribution, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", QUICK)
def test_batches_and_workers_leave_no_trace(method):
    x = random_input("small", 1)
    once = explain("small", x, method, batch_size=1)
    for options in ({"batch_size": 5}, {"batch_size": 64}, {"batch_size": 3, "loop": onnxsal.LoopOptions(workers=3)}):
        again = explain("small", x, method, **options)
        # The kernels of a batch may round otherwise than those of one sample.
        assert_allclose(again.attribution, once.attribution, rtol=1e-4, atol=1e-5 * np.abs(once.attribution).max())


@pytest.mark.parametrize("method", ["smoothgrad", "rise"])
def test_a_seed_is_a_map(method):
    x = random_input("small", 1)
    one, same, other = (explain("small", x, method, seed=seed) for seed in (1, 1, 2))
    assert_array_equal(one.attribution, same.attribution)
    assert (one.attribution != other.attribution).any()


@pytest.mark.parametrize("method", QUICK)
def test_several_targets_are_explained_as_each_alone(method):
    x = random_input("small", 1)
    top = explain("small", x, method, "top:3")
    assert len({e.target.index for e in top}) == 3
    for explanation in top:
        alone = explain("small", x, method, explanation.target.index)
        assert_allclose(explanation.attribution, alone.attribution, rtol=1e-5, atol=1e-7)
        assert explanation.score == alone.score


@pytest.mark.parametrize("target", ["layer:c2,channel=3", "layer:c2,channel=3,at=1,4", "prob:2", "1-3"])
@pytest.mark.parametrize("method", ["smoothgrad", "integrated-gradients"])
def test_loops_over_gradients_tell_the_score_that_the_gradient_tells(method, target):
    x = random_input("small", 1)
    found, plain = explain("small", x, method, target), loaded("small").explain(x, "gradient", target)
    assert found.score == pytest.approx(plain.score, rel=1e-5)


def test_partial_maps_get_better_and_end_with_the_whole():
    x = random_input("small", 1)
    *partial, (last,) = loaded("small").improve(x, "rise", samples=300)
    whole = loaded("small").explain(x, "rise", samples=300)
    assert_array_equal(last.attribution, whole.attribution)
    assert [e.settings["samples"] for (e,) in partial] == [64, 128, 256]
    errors = [float(e.error.mean()) for (e,) in [*partial, (last,)]]
    assert errors[-1] < errors[0]


def test_what_partial_maps_are_asked_for_is_checked_before_the_first_is_taken():
    with pytest.raises(MethodError, match="no setting 'cell'"):
        loaded("small").improve(random_input("small", 1), "rise", cell=3)


def test_partial_maps_of_several_targets_come_together():
    x = random_input("small", 1)
    found = list(loaded("small").improve(x, "smoothgrad", "top:2", samples=200))
    assert [[e.settings["samples"] for e in maps] for maps in found] == [[64, 64], [128, 128], [200, 200]]


@pytest.mark.parametrize("variant", ["mean", "squared", "variance"])
def test_every_sampled_map_has_its_error(variant):
    x = random_input("small", 1)
    settings = {"variant": variant, "samples": 40, "batch_size": 8}
    maps = [explain("small", x, "smoothgrad", 1, seed=seed, **settings) for seed in range(30)]
    said = np.sqrt(np.mean([e.error**2 for e in maps], axis=0))
    scatter = np.std([e.attribution for e in maps], axis=0, ddof=1)
    assert 0.8 < np.sqrt(np.mean(scatter**2) / np.mean(said**2)) < 1.25


def test_integrals_end_at_their_end_however_small_the_error_that_would_do():
    x = random_input("small", 1)
    whole = explain("small", x, "integrated-gradients", steps=130)
    hasty = onnxsal.LoopOptions(tolerance=10.0)
    assert_array_equal(
        explain("small", x, "integrated-gradients", steps=130, loop=hasty).attribution, whole.attribution
    )


def test_a_loop_ends_early_once_it_is_sure_enough():
    found = explain("small", random_input("small", 1), "rise", samples=100_000, loop=onnxsal.LoopOptions(tolerance=0.2))
    assert found.settings["samples"] < 10_000
    assert found.error.max() / np.ptp(found.attribution) <= 0.2


@pytest.mark.parametrize("method", QUICK)
def test_no_single_graph_is_compiled(method):
    with pytest.raises(MethodError, match=f"{method} runs the model many times and is no single graph"):
        loaded("small").compile(method)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("rise", {"keep": 1.0}, "keep=1.0 is no probability"),
        ("rise", {"keep": 0.3, "estimator": "balanced"}, "keep is 0.3: use estimator=regression"),
        ("rise", {"fill": "pink"}, "'pink' is neither a number nor one of zero, mean"),
        ("rise", {"samples": 0}, "samples=0"),
        ("rise", {"cells": 0}, "cells=0"),
        ("smoothgrad", {"base": "rise"}, "rise is none: choose another base"),
        ("smoothgrad", {"noise": -1.0}, "noise=-1.0"),
        ("integrated-gradients", {"steps": 0}, "steps=0"),
        ("integrated-gradients", {"steps": 10**9}, "steps=1000000000 is above 10000"),
        ("occlusion", {"window": 0}, "window=0 is below 1"),
        ("occlusion", {"window": 13}, "window=13 is larger than the photo in the model's input"),
        ("occlusion", {"window": 3, "stride": 4}, "what lies between is never hidden"),
        ("rise", {"cells": 200}, "cells=200 is more than the photo has pixels"),
        ("rise", {"samples": 10**14}, "samples=100000000000000 is above 10000000"),
        ("rise", {"samples": float("inf")}, "samples=inf is not a whole number"),
        ("rise", {"seed": 2**64}, "seed=18446744073709551616 is above"),
        ("rise", {"fill": np.zeros((2, 2))}, r"fill=\(ndarray\) is not text or a number"),
        ("rise", {"batch_size": -1}, "batch_size=-1 is no whole number of 1 or more"),
        ("gradient", {"batch_size": 0}, "batch_size=0 is no whole number of 1 or more"),
        ("rise", {"loop": {"workers": 2}}, r"loop is a dict: give onnxsal.LoopOptions\(workers=2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(method, settings, message):
    with pytest.raises(MethodError, match=message):
        loaded("small").explain(random_input("small", 1), method, **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers=0 is no whole number of 1 or more"),
        ({"tolerance": float("nan")}, "tolerance=nan is no number above 0"),
        ({"checkpoint": "nowhere/loop.npz"}, r"cannot write nowhere.loop.npz: there is no folder"),
        ({"checkpoint": "."}, "is a folder: give a file in it"),
    ],
)
def test_options_of_loops_that_make_no_sense_are_refused(options, message):
    with pytest.raises(OnnxsalError, match=message):
        onnxsal.LoopOptions(**options)


def test_a_fill_may_be_a_number():
    x = random_input("small", 1)
    for method, setting in (("rise", "fill"), ("integrated-gradients", "baseline")):
        as_text, as_number = (explain("small", x, method, **{setting: value}) for value in ("0.25", 0.25))
        assert_array_equal(as_text.attribution, as_number.attribution)


def free_in_name_only(rows: int, declared: int | str) -> onnx.ModelProto:
    """Return a classifier whose image has a free batch, and its Reshape `rows`, its output `declared`."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,12,12] image) => (float[{declared},4] logits)
        {{ c = Conv<strides=[3,3]>(image, w) r = Relu(c) f = Reshape(r, shape) logits = MatMul(f, m) }}"""
    )
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((5, 3, 3, 3)), "m": rng.standard_normal((80, 4))}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items())
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([rows, 80]), "shape"))
    return proto


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "rise"])
@pytest.mark.parametrize(("rows", "declared"), [(1, "N"), (-1, 1)], ids=["reshaped to one", "declared one"])
def test_a_batch_that_is_free_in_name_only_is_told_from_a_free_one(method, rows, declared):
    known = {"scale": 1, "mean": 0, "std": 1}
    free, other = (onnxsal.load(free_in_name_only(*a), card=known) for a in ((-1, "N"), (rows, declared)))
    x = np.random.default_rng(1).standard_normal((3, 3, 12, 12)).astype(np.float32)
    settings = {} if method == "gradient" else {"samples": 20}
    assert [p[0].index for p in other.predict(x)] == [p[0].index for p in free.predict(x)]
    for one, same in zip(free.explain(x, method, 1, **settings), other.explain(x, method, 1, **settings), strict=True):
        assert_allclose(same.attribution, one.attribution, rtol=1e-4, atol=1e-6)


# ----- Each against its paper -----


@pytest.mark.parametrize("net", ["small", "channels last"])
@pytest.mark.parametrize(("keep", "fill"), [(0.5, "zero"), (0.3, "mean")])
def test_rise_is_the_mean_of_probability_times_mask_over_keep(net, keep, fill):
    x = random_input(net, 1)
    settings = {"samples": 200, "estimator": "paper", "keep": keep, "seed": 5, "cells": 4, "fill": fill}
    found = explain(net, x, "rise", 2, **settings)
    space = rise_space((0, 0, 12, 12), (12, 12), (4, 4))
    masks = space.render(Independent(space, 5, keep).draw(0, 200))
    card = loaded(net).card.card
    hidden = make_fill(fill, x, card)
    shaped = masks[:, None] if card.layout == "NCHW" else masks[..., None]
    scores = softmax(run(net, hidden + shaped * (x - hidden)))[:, 2]
    slow = (scores[:, None, None] * masks).mean(axis=0) / keep
    assert np.abs(found.attribution - slow).max() <= 1e-6
    assert found.score == pytest.approx(float(run(net, x)[0, 2]), rel=1e-4)


@pytest.mark.parametrize(("keep", "same"), [(0.5, "balanced-regression"), (0.3, "regression")])
def test_by_default_rise_uses_the_estimator_that_needs_fewest_masks(keep, same):
    x = random_input("small", 1)
    named = {name: explain("small", x, "rise", 2, keep=keep, estimator=name) for name in (same, "centred", None)}
    assert_array_equal(named[None].attribution, named[same].attribution)
    assert named[None].error.mean() < named["centred"].error.mean()
    assert np.abs(named[None].attribution - named["centred"].attribution).max() < 6 * named["centred"].error.max()


def test_smoothgrad_is_the_mean_gradient_of_noisy_images(rng):
    from onnxsal.sampling.streams import Purpose, normals

    x = random_input("small", 1)
    found = explain("small", x, "smoothgrad", 1, samples=9, noise=0.2, seed=3)
    deviation = 0.2 * np.ptp(x)
    noisy = np.concatenate([x + np.float32(deviation) * normals(3, Purpose.NOISE, i, x.shape) for i in range(9)])
    gradients = np.stack([e.attribution for e in loaded("small").explain(noisy, "gradient", 1)])
    assert_allclose(found.attribution, gradients.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert_allclose(found.error, gradients.std(axis=0, ddof=1) / 3, rtol=1e-3, atol=1e-6)
    squared = explain("small", x, "smoothgrad", 1, samples=9, noise=0.2, seed=3, variant="squared")
    assert_allclose(squared.attribution, (gradients**2).mean(axis=0), rtol=1e-4, atol=1e-6)
    variance = explain("small", x, "smoothgrad", 1, samples=9, noise=0.2, seed=3, variant="variance")
    assert_allclose(variance.attribution, gradients.var(axis=0), rtol=1e-3, atol=1e-6)
    absolute = explain("small", x, "smoothgrad", 1, samples=9, noise=0.2, seed=3, absolute=True)
    assert_allclose(absolute.attribution, np.abs(gradients).mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", ["gradient", "grad-x-input", "guided-backprop", "deconvnet", "grad-cam", "cam"])
def test_without_noise_smoothgrad_is_its_base_method(base):
    x = random_input("small", 1)
    found = explain("small", x, "smoothgrad", base=base, noise=0.0, samples=2)
    plain = loaded("small").explain(x, base)
    assert_allclose(found.attribution, plain.attribution, rtol=1e-5, atol=1e-7)
    assert_allclose(found.heatmap, plain.heatmap, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["small", "vit", "residual"])
@pytest.mark.parametrize("baseline", ["zero", "mean", "0.3"])
def test_integrated_gradients_sum_to_the_change_in_score(net, baseline):
    x = random_input(net, 1)
    found = explain(net, x, "integrated-gradients", 1, steps=300, baseline=baseline)
    start = np.broadcast_to(make_fill(baseline, x, loaded(net).card.card), x.shape).astype(x.dtype)
    change = float(run(net, x)[0, 1] - run(net, start)[0, 1])
    assert float(found.attribution.sum()) == pytest.approx(change, rel=0.01, abs=1e-3)


@pytest.mark.parametrize("net", ["small", "channels last"])
def test_occlusion_is_the_mean_fall_of_the_score_over_the_windows_that_cover_a_pixel(net):
    x = random_input(net, 1)
    found = explain(net, x, "occlusion", 1, window=5, stride=3, fill="0.25")
    total, covered = np.zeros((12, 12)), np.zeros((12, 12))
    whole = run(net, x)[0, 1]
    for top in (0, 3, 6, 9):
        for left in (0, 3, 6, 9):
            inside = np.zeros((12, 12), bool)
            inside[top : top + 5, left : left + 5] = True
            hidden = x.copy()
            where = (0, slice(None), inside) if loaded(net).card.card.layout == "NCHW" else (0, inside)
            hidden[where] = 0.25
            total[inside] += whole - run(net, hidden)[0, 1]
            covered[inside] += 1
    assert_allclose(found.attribution, total / covered, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (12, 416), (416, 12), (1, 300), (312, 416)])
def test_no_photo_takes_many_more_windows_than_a_square_one(height, width):
    space = square_space((0, 0, width, height), (height, width), None, None)
    assert len(all_windows(space)) <= 1000


def test_score_cam_weighs_channels_by_the_score_under_each():
    x = random_input("small", 1)
    found = explain("small", x, "score-cam", 1)
    activation, masked = seen_by_channels(x)
    slow = np.maximum(np.tensordot(softmax(run("small", masked)[:, 1][None])[0], activation, 1), 0)
    assert_allclose(found.attribution, slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["Softmax", "Sigmoid"])
def test_score_cam_weighs_by_logits_also_where_the_model_ends_in_probabilities(activation):
    ended = replaced(("[N,4] logits)", "[N,4] p)"), ("flat, w3, b3)\n", f"flat, w3, b3)\n  p = {activation}(logits)\n"))
    x = random_input("small", 1)
    found = onnxsal.load(fill(ended), card={"scale": 1, "mean": 0, "std": 1}).explain(x, "score-cam", 0)
    channels, masked = seen_by_channels(x)
    logits = run("small", masked)
    # Of a softmax logits are known up to a number that all classes share: a channel counts by its probability.
    weights = softmax(logits)[:, 0] if activation == "Softmax" else np.exp(logits[:, 0])
    slow = np.maximum(np.tensordot(weights / weights.sum(), channels, 1), 0)
    assert_allclose(found.attribution, slow, rtol=1e-4, atol=1e-6)


def seen_by_channels(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the activation of the last layer (C, h, w), and the image under each of its channels (C, ...)."""
    activation = papers_activation(loaded("small").inspect().default_layer, x)
    masked = []
    for channel in activation:
        large = onnxsal.explanation.sampled.enlarge(channel, (12, 12))
        mask = (large - large.min()) / (large.max() - large.min()) if np.ptp(large) else np.zeros_like(large)
        masked.append(mask * x[0])
    return activation, np.stack(masked).astype(np.float32)


def papers_activation(layer: str, x: np.ndarray) -> np.ndarray:
    """Return a layer's activation (C, h, w)."""
    proto = onnx.ModelProto()
    proto.CopyFrom(explainable.proto("small"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(layer, onnx.TensorProto.FLOAT, None))
    session = open_session(proto)
    return session.run([layer], {session.get_inputs()[0].name: x})[0][0]
