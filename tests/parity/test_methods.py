"""Each method against captum and pytorch-grad-cam on the same network.

The maps are frozen by `freeze_methods.py`, whose header names the versions and says where the libraries
differ and which settings were taken.
"""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from parity import methods_cases
from parity.methods_cases import Case

import onnxsal
from onnxsal.errors import MethodError
from onnxsal.methods import methods

NETS = ("rectifiers", "residual", "swin", "vgg", "vit")
# Float32 against float64, through a few layers: 3e-6 at most. 1e-4 leaves room for other processors.
TOLERANCE = 1e-4
CARD = {"scale": 1, "mean": 0, "std": 1}


def cases() -> list[object]:
    pairs = [(net, number, case) for net in NETS for number, (case, _) in enumerate(methods_cases.load(net)[1])]
    return [pytest.param(net, number, id=f"{net}: {case.method} = {case.peer}") for net, number, case in pairs]


@pytest.fixture(scope="module")
def models() -> dict[str, onnxsal.Model]:
    return {net: onnxsal.load(methods_cases.FOLDER / f"{net}.onnx", card=CARD) for net in NETS}


def read(explanation: onnxsal.Explanation, case: Case) -> NDArray[np.float32]:
    if case.reads == "attribution":
        return explanation.attribution
    heat = explanation.heatmap
    if case.reads == "min-max heatmap":
        heat = (heat - heat.min()) / (heat.max() - heat.min())
    return heat


@pytest.mark.parametrize(("net", "number"), cases())
def test_a_method_says_what_its_peer_says(models, net, number):
    x, maps = methods_cases.load(net)
    case, want = maps[number]
    found = models[net].explain(x, case.method, case.target, case.layer, **case.settings)
    maps = np.stack([read(explanation, case) for explanation in found])
    assert maps.shape == want.shape
    assert maps.dtype == np.float32
    # Each sample by itself: a small map shall not hide behind a large one.
    for sample, wanted in zip(maps, want, strict=True):
        error = np.abs(sample - wanted).max() / np.abs(wanted).max()
        assert error <= TOLERANCE, f"{error:.1e}"


# odam's peers are written for its authors' detectors; tests/methods holds it to its definition.
WITHOUT_PEER = {"odam"}


@pytest.mark.parametrize("method", sorted(set(methods(sampled=False)) - WITHOUT_PEER))
def test_every_method_has_a_peer_on_two_networks(method):
    assert sum(method in {case.method for case, _ in methods_cases.load(net)[1]} for net in NETS) >= 2


@pytest.mark.parametrize("net", NETS)
def test_frozen_maps_say_something(net):
    _, maps = methods_cases.load(net)
    assert all(array.reshape(2, -1).any(1).all() for _, array in maps)


def test_networks_are_small_and_valid():
    for net in NETS:
        path = methods_cases.FOLDER / f"{net}.onnx"
        assert path.stat().st_size < 100_000
        onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("net", ["swin", "vit"])
@pytest.mark.parametrize("method", ["guided-backprop", "deconvnet"])
def test_a_transformer_without_rectifiers_is_refused_where_captum_gives_the_plain_gradient(models, method, net):
    x, _ = methods_cases.load(net)
    with pytest.raises(MethodError, match="plain gradient under another name"):
        models[net].explain(x, method)
