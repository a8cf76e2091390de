"""Methods of many runs, and presets, against the libraries themselves, given the same noise and masks.

The maps are frozen by `freeze_perturbation.py`, whose header names the versions and says where the libraries differ.
"""

import numpy as np
import pytest
from parity import methods_cases, perturbation_cases
from parity.perturbation_cases import FOLDER, NETS

import onnxsal
from onnxsal.methods.presets import PRESETS

CARD = {"scale": 1, "mean": 0, "std": 1}
# Float32 against float64, through a few layers, and black boxes in float32: 1e-4 leaves room for other processors.
TOLERANCE = 1e-4
RISE_TOLERANCE = 1e-6


def cases() -> list[object]:
    found = []
    for net in NETS:
        for number, (case, _) in enumerate(methods_cases.load(net, FOLDER)[1]):
            found.append(pytest.param(net, number, id=f"{net}: {case.method} = {case.peer}"))
    return found


@pytest.fixture(scope="module")
def models() -> dict[str, onnxsal.Model]:
    return {net: onnxsal.load(methods_cases.FOLDER / f"{net}.onnx", card=CARD) for net in NETS}


@pytest.mark.parametrize(("net", "number"), cases())
def test_a_method_says_what_its_peer_says(models, net, number):
    x, maps = methods_cases.load(net, FOLDER)
    case, want = maps[number]
    found = models[net].explain(x, case.method, case.target, batch_size=32, **case.settings)
    ours = np.stack([getattr(explanation, case.reads) for explanation in found])
    assert ours.shape == want.shape
    if case.method == "rise":
        assert np.abs(ours - want).max() <= RISE_TOLERANCE
    for one, other in zip(ours, want, strict=True):
        error = np.abs(one - other).max() / np.abs(other).max()
        assert error <= TOLERANCE, f"{error:.1e}"


def test_every_preset_has_been_held_against_its_library():
    frozen = {
        (case.settings["like"], case.method)
        for net in NETS
        for case, _ in methods_cases.load(net, FOLDER)[1]
        if "like" in case.settings
    }
    every = {(like, method) for like, preset in PRESETS.items() for method in preset.methods}
    assert every - frozen == perturbation_cases.ELSEWHERE
