"""`like="vem"` against Microsoft's D-RISE, given the same masks; frozen by `freeze_drise.py`."""

import numpy as np
import onnx
import pytest
from parity.drise_cases import CELLS, COUNT, FOLDER, GRID, PHOTO, SEED, SHAPE
from support.detector import CARD, detector

import onnxsal
from onnxsal.sampling.designs import Independent
from onnxsal.sampling.masks import rise_space

DETECTORS = {"proposing": detector, "final": lambda: onnx.load(FOLDER / "final.onnx")}


@pytest.fixture(scope="module")
def frozen() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "drise.npz") as saved:
        return {name: saved[name] for name in saved.files}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detections_map_is_theirs(frozen, name):
    model = onnxsal.load(DETECTORS[name](), card=CARD)
    found = model.explain(PHOTO, "d-rise", "all", like="vem", samples=COUNT, cells=CELLS, seed=SEED, batch_size=8)
    ours = np.stack([explanation.attribution for explanation in found])
    assert ours.shape == frozen[name].shape
    assert np.abs(ours - frozen[name]).max() <= 2e-5  # sums of float32, scaled to 0..1
    heat = np.stack([explanation.heatmap for explanation in found])
    assert np.abs(heat - ours).max() <= 1e-6


def test_hard_edged_masks_are_theirs(frozen):
    space = rise_space((0, 0, SHAPE[1], SHAPE[0]), SHAPE, GRID, "nearest")
    np.testing.assert_array_equal(space.render(Independent(space, SEED, 0.5).draw(0, COUNT)), frozen["masks"])


def test_final_detections_are_compared_on_demand():
    model = onnxsal.load(DETECTORS["final"](), card=CARD)
    quick = {"samples": 8, "seed": SEED}
    final = model.explain(PHOTO, "d-rise", "box:0", proposals="final", **quick)
    assert final.settings["head"] == "after suppression: the best class of each box only"
    every = model.explain(PHOTO, "d-rise", "box:0", **quick)
    assert every.settings["head"] == "proposals before suppression"
    assert (final.attribution != every.attribution).any()
