"""A seed is a map, bit by bit: whatever the batch size, the workers, interruptions, and the other targets.

On models whose kernels give a sample the same numbers in any batch. ONNX Runtime's convolutions do; its matrix product
takes other code for one row than for several, so the classes come from a convolution here.
"""

import functools

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.detector import CARD, detector, squares

import onnxsal
from onnxsal.methods import methods

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
even (float[N,3,12,12] image) => (float[N,4] logits)
{
  c1 = Conv<pads=[1,1,1,1]>(image, w1)
  a1 = Relu(c1)
  p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a1)
  c2 = Conv(p1, w2)
  a2 = Relu(c2)
  pooled = GlobalAveragePool(a2)
  spread = Conv(pooled, w3)
  logits = Flatten(spread)
}
"""
QUICK = {
    "smoothgrad": {"samples": 13},
    "integrated-gradients": {"steps": 13},
    "rise": {"samples": 150},
    "occlusion": {"window": 4, "stride": 2},
    "score-cam": {},
    "d-rise": {"samples": 150, "cells": 5},
}
ESTIMATORS = ["paper", "centred", "balanced", "regression", "balanced-regression"]
CASES = [(method, {}) for method in QUICK] + [
    *(("rise", {"estimator": estimator}) for estimator in ESTIMATORS),
    ("d-rise", {"estimator": "paper", "edges": "nearest", "fill": "mean"}),
    ("smoothgrad", {"variant": "variance", "base": "grad-cam"}),
]
every = pytest.mark.parametrize(("method", "settings"), CASES, ids=lambda value: str(value).strip("{}"))


@functools.cache
def model(method: str) -> onnxsal.Model:
    if method == "d-rise":
        return onnxsal.load(detector(batch="N"), card=CARD)
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (5, 3, 3, 3), "w2": (6, 5, 3, 3), "w3": (4, 6, 1, 1)}.items():
        array = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return onnxsal.load(proto, card={"scale": 1, "mean": 0, "std": 1})


def explain(method: str, target: str | int | None = None, **settings: object) -> list[onnxsal.Explanation]:
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    image = squares((0, 8, 8), (2, 40, 32)) if method == "d-rise" else x
    target = ("all" if method == "d-rise" else "top:3") if target is None else target
    found = model(method).explain(image, method, target, **QUICK[method] | settings)
    return found if isinstance(found, list) else [found]


def assert_same(found: list[onnxsal.Explanation], wanted: list[onnxsal.Explanation]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert_array_equal(one.attribution, other.attribution)
        assert_array_equal(one.heatmap, other.heatmap)
        assert (one.error is None) == (other.error is None)
        if one.error is not None:
            assert_array_equal(one.error, other.error)


@every
def test_batches_and_workers_leave_no_bit_of_a_trace(method, settings):
    once = explain(method, batch_size=1, loop=onnxsal.LoopOptions(workers=1), **settings)
    for batch_size, workers in ((7, 1), (64, 1), (5, 2), (1, 3)):
        again = explain(method, batch_size=batch_size, loop=onnxsal.LoopOptions(workers=workers), **settings)
        assert_same(again, once)


@every
def test_what_was_interrupted_ends_as_if_it_had_not_been(method, settings, tmp_path):
    told = []

    def interrupt(status):
        told.append(status)
        if len(told) == 2:
            raise KeyboardInterrupt

    broken = onnxsal.LoopOptions(1, checkpoint=tmp_path / "loop.npz", progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        explain(method, batch_size=2, loop=broken, **settings)
    told.clear()
    # It goes on in other batches, on more workers.
    resumed = onnxsal.LoopOptions(2, checkpoint=tmp_path / "loop.npz", progress=told.append)
    found = explain(method, batch_size=4, loop=resumed, **settings)
    assert told[0].done > 4
    assert_same(found, explain(method, **settings))


@every
def test_a_target_gets_what_it_gets_alone(method, settings):
    together = explain(method, **settings)
    assert len(together) > 1
    for explanation in together:
        target = explanation.target.text if method == "d-rise" else explanation.target.index
        (alone,) = explain(method, target, **settings)
        # How many detections there are changes a matrix product's shape, and with it the last bit.
        assert_allclose(explanation.attribution, alone.attribution, rtol=1e-6 if method == "d-rise" else 0)


@pytest.mark.parametrize("method", methods(sampled=True))
def test_methods_of_many_runs_explain_all_targets_in_the_same_passes(method):
    def passes(target):
        told = []
        explain(method, target, batch_size=10, loop=onnxsal.LoopOptions(1, progress=told.append))
        return [status.done for status in told]

    assert passes("all" if method == "d-rise" else "top:3") == passes("box:0" if method == "d-rise" else 1)


def test_masks_are_added_up_as_if_all_were_kept():
    from onnxsal.sampling.designs import Independent
    from onnxsal.sampling.masks import rise_space

    found = explain("rise", 1, estimator="paper", score="output", seed=5, samples=500)[0]
    space = rise_space((0, 0, 12, 12), (12, 12), (7, 7))
    masks = space.render(Independent(space, 5, 0.5).draw(0, 500)).astype(np.float64)
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    session = model("rise")._opened.plain
    scores = session.run({"image": (x * masks[:, None]).astype(np.float32)}, ["logits"])["logits"][:, 1]
    slow = np.tensordot(scores.astype(np.float64), masks, 1) / 500 / 0.5
    assert np.abs(found.attribution - slow).max() <= 2e-7 * max(np.abs(slow).max(), 1)
