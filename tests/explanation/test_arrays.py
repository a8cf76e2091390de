"""Models of anything: features, time series, trees, Python functions."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import onnxsal
from onnxsal.errors import ImageError, MethodError, OnnxsalError, OutputError, TargetError

ZOO = Path(os.environ.get("ONNXSAL_ZOO", "no zoo"))
WEIGHTS = np.array([1.0, -2.0, 0.0, 3.0])
X = np.array([1.0, 2.0, 3.0, 4.0])


def linear(x: np.ndarray) -> np.ndarray:
    return np.stack([x @ WEIGHTS, -(x @ WEIGHTS)], axis=1)


def test_occlusion_of_a_linear_function_is_each_features_share():
    found = onnxsal.load(linear).explain(X, "occlusion", 0)
    assert_allclose(found.attribution, WEIGHTS * X, rtol=1e-5)
    assert found.score == pytest.approx(float(WEIGHTS @ X))


def test_a_class_is_all_of_it_where_scores_are_no_map():
    one, other = (onnxsal.load(linear).explain(X, "occlusion", target) for target in ("class:1", 1))
    assert str(one.target) == str(other.target) == "1 class 1"
    assert_allclose(one.attribution, other.attribution)


def test_rise_of_a_linear_function_is_half_of_each_features_share_beside_the_mean():
    # Balanced masks leave no noise on what is linear in the cells.
    found = onnxsal.load(linear).explain(X, "rise", 0, samples=64, estimator="balanced")
    share = WEIGHTS * X / 2
    assert_allclose(found.attribution - found.attribution.mean(), share - share.mean(), atol=1e-5)


def test_time_series_are_hidden_in_stretches_of_one_feature():
    model = onnxsal.load(lambda x: x[:, 10:20, 1].sum(axis=1))
    found = model.explain(np.ones((50, 3)), "rise", samples=1500, cells=10)
    assert found.attribution.shape == found.error.shape == (50, 3)
    step, feature = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    assert 10 <= step < 20
    assert feature == 1
    hidden = model.explain(np.ones((50, 3)), "occlusion", window=5, stride=5)
    assert_allclose(hidden.attribution[10:20, 1], 5)
    assert not hidden.attribution[:, [0, 2]].any()


@pytest.mark.parametrize("channel_axis", [0, 2])
def test_arrays_of_few_channels_are_images_to_a_function(channel_axis):
    model = onnxsal.load(lambda x: x.sum(axis=channel_axis + 1)[:, 8:16, 4:12].mean(axis=(1, 2)))
    x = np.moveaxis(np.ones((3, 24, 32)), 0, channel_axis)
    inside = np.zeros((24, 32), bool)
    inside[8:16, 4:12] = True
    for method, settings in (("rise", {"samples": 600}), ("occlusion", {"window": 4, "stride": 2})):
        found = model.explain(x, method, **settings)
        assert found.attribution.shape == found.heatmap.shape == (24, 32)
        assert found.heatmap[inside].mean() > 3 * found.heatmap[~inside].mean()
        assert found.overlay().size == (32, 24)


def test_a_batch_is_told_from_a_sample_by_what_a_function_takes():
    def strict(x):
        if x.ndim != 2 or x.shape[1] != 4:
            raise ValueError("of no use")
        return linear(x)

    model = onnxsal.load(strict)
    alone = model.explain(X, "occlusion", 0)
    found = model.explain(X[None], "occlusion", 0)
    assert_array_equal(found.attribution, alone.attribution)
    assert len(model.explain(np.stack([X, X]), "occlusion", 0)) == 2
    images = onnxsal.load(lambda x: x.mean(axis=(1, 2, 3)))
    assert images.explain(np.ones((1, 3, 8, 8)), "occlusion").attribution.shape == (8, 8)
    with pytest.raises(ValueError, match="of no use"):
        model.explain(np.ones((3, 5)), "occlusion", 0)


def test_steps_of_a_series_that_is_convolved_are_those_that_it_is_convolved_along():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,2,60] x) => (float[N,1] y) <float[1,2,3] w> {
        s = Add(x, x) c = Conv(s, w) p = MaxPool<kernel_shape=[58]>(c) y = Flatten(p) }"""
    proto = onnx.parser.parse_model(text.replace(" <float[1,2,3] w>", ""))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 2, 3), np.float32), "w"))
    x = np.zeros((2, 60), np.float32)
    x[1, 20:30] = 1
    found = onnxsal.load(proto).explain(x, "occlusion", window=30, stride=30, fill=0)
    assert_allclose(found.attribution[1], np.repeat([6.0, 0.0], 30))
    assert not found.attribution[0].any()
    assert found.heatmap.shape == (2, 60)


def test_a_function_has_checkpoints_and_partial_maps(tmp_path):
    model = onnxsal.load(linear)
    written = onnxsal.LoopOptions(checkpoint=tmp_path / "loop.npz")
    model.explain([X, X / 2], "rise", samples=50, loop=written)
    longer = model.explain([X, X / 2], "rise", samples=200, loop=written)
    for one, x in zip(longer, (X, X / 2), strict=True):
        assert_array_equal(one.attribution, model.explain(x, "rise", samples=200).attribution)
    counts = [e.settings["samples"] for (e,) in model.improve(X, "rise", samples=200)]
    assert counts == [200]  # in runs of 256
    assert len(list(model.improve(X, "rise", samples=200, batch_size=50))) == 3
    with pytest.raises(OutputError, match="belongs to another explanation"):
        onnxsal.load(lambda x: -linear(x)).explain([X, X / 2], "rise", samples=50, loop=written)


def test_whole_numbers_are_masked_to_whole_numbers_that_are_near():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N,12,2] x) => (float[N,1] y)'
        "{ f = Cast<to=1>(x) y = ReduceSum<keepdims=0>(f, axes) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    settings = {"samples": 400, "cells": 4, "estimator": "paper"}
    found = onnxsal.load(proto).explain(np.full((12, 2), 9), "rise", 0, **settings)
    unrounded = onnxsal.load(lambda x: x.sum(axis=1)).explain(np.full((12, 2), 9.0), "rise", 0, **settings)
    # Were they cut, the sum of twelve numbers would be lower by several.
    assert_allclose(found.attribution, unrounded.attribution, atol=0.5)


def test_it_takes_one_call_to_explain_a_function():
    assert_array_equal(
        onnxsal.explain(linear, X, "occlusion").attribution, onnxsal.load(linear).explain(X, "occlusion").attribution
    )


@pytest.mark.parametrize("fill", ["0.5", "mean"])
def test_what_is_hidden_is_filled(fill):
    seen = []

    def watch(x):
        seen.append(x)
        return x.sum(axis=1)

    onnxsal.load(watch).explain(X, "occlusion", 0, fill=fill)
    want = {"0.5": 0.5, "mean": None}[fill]
    hidden = seen[-1][0, 0]
    assert hidden == pytest.approx(X[0] if want is None else want)


def test_a_model_of_vectors_is_loaded_as_one():
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    nodes = "{ l = MatMul(x, w) p = Softmax(l) }"
    proto = onnx.parser.parse_model(f"{header} g (float[N,4] x) => (float[N,2] p) {nodes}")
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.stack([WEIGHTS, -WEIGHTS], axis=1).astype(np.float32), "w")
    )
    model = onnxsal.load(proto, card={"labels": ["yes", "no"]})
    assert isinstance(model, onnxsal.ArrayModel)
    assert model.predict(X / 10)[0].label == "yes"
    found = model.explain([X / 10, X / 20], "rise", "yes", samples=32)
    assert [e.target.label for e in found] == ["yes", "yes"]
    assert found[0].facts()["method"] == "rise"


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs ONNXSAL_ZOO")
def test_a_forest_of_scikit_learn_is_explained(tmp_path):
    model = onnxsal.load(ZOO / "models" / "coffee_skl2onnx.onnx")
    x = np.full(286, 0.5, np.float32)
    best, other = model.predict(x)
    assert best.score == pytest.approx(0.548, abs=1e-3)
    assert best.score + other.score == pytest.approx(1)
    found = model.explain(x, "occlusion")
    assert found.score == best.score
    moved = np.flatnonzero(found.attribution)
    assert 0 < len(moved) < 100
    hidden = x.copy()
    hidden[moved[0]] = 0
    assert found.attribution[moved[0]] == pytest.approx(best.score - model.scores(hidden[None])[0, 0], abs=1e-6)
    assert found.save(tmp_path / "forest.png").stat().st_size > 100


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.explain(X, "grad-cam"), MethodError, "grad-cam needs an image, and linear has no image input"),
        (lambda m: m.explain("dog.jpg"), ImageError, "takes no photos; give a sample as an array"),
        (lambda m: m.explain(X, "rise", "layer:a,channel=1"), TargetError, "means nothing here"),
        (lambda m: m.explain(X, "rise", "prob:1"), TargetError, "'prob:1' means nothing here"),
        (lambda m: m.explain(X, "rise", "class:1@0,0,1,1"), TargetError, "means nothing here"),
        (lambda m: m.explain(X, "rise", 7), TargetError, "there is no class 7"),
        (lambda m: m.explain(np.array([np.nan, 1])), ImageError, "not finite"),
        (lambda m: m.explain(X, "rise", fill="blur"), MethodError, "neither a number nor zero or mean"),
        (lambda m: m.explain(X, "rise", fill="nan"), MethodError, "neither a number nor zero or mean"),
        (lambda m: m.explain(X, "occlusion", window=2), MethodError, "longer than the sample, which has 1 steps"),
        (lambda m: m.explain(X, "rise", batch_size=-1), MethodError, "batch_size=-1 is no whole number"),
        (lambda m: m.improve([X, X]).__next__(), MethodError, "improve takes one sample, not 2"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(call, error, message):
    with pytest.raises(error, match=message):
        call(onnxsal.load(linear))


def test_a_function_that_gives_no_scores_is_refused():
    with pytest.raises(TargetError, match="no score for each"):
        onnxsal.load(lambda x: np.zeros(3)).explain(X)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(OnnxsalError, match="gives scores that are not finite"):
        onnxsal.load(lambda x: np.where(x[:, :1] == 0, np.nan, x)).explain(X, "rise")


def test_a_sample_from_the_command_line(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from onnxsal.cli import cli

    monkeypatch.chdir(tmp_path)
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) { y = Softmax(x) }'
    onnx.save(onnx.parser.parse_model(text), "model.onnx")
    np.save("sample.npy", X.astype(np.float32))
    result = CliRunner().invoke(cli, ["explain", "model.onnx", "sample.npy", "-m", "rise", "--set", "samples=20"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sample_rise.png").exists()
    refused = CliRunner().invoke(cli, ["explain", "model.onnx", "sample.npy"])
    assert refused.exit_code == 2
    assert "explain it by rise or occlusion" in refused.output
    np.save("two.npy", np.stack([X, X]).astype(np.float32))
    for given, says in (
        (["two.npy"], "two.npy holds 2 samples: write each into a file of its own"),
        (["sample.npy", "--input", "a=two.npy"], "model has no input beside the sample: a is none"),
    ):
        refused = CliRunner().invoke(cli, ["explain", "model.onnx", *given, "-m", "rise", "--overwrite"])
        assert refused.exit_code == 2, refused.output
        assert says in refused.output
