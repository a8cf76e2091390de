"""The pointing game on scenes whose truth is known: is the hottest place on the digit?

`python tests/methods/test_pointing.py` prints the table of models/digits/README.md.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import onnxsal
from onnxsal.methods import methods

DIGITS = Path(__file__).parents[2] / "models" / "digits"
COUNT = 200

# Shares of 200 held-out scenes; each floor is a few scenes below what was measured.
FLOORS = {
    "grad-cam": 0.95,
    "cam": 0.95,
    "guided-grad-cam": 0.95,
    "guided-backprop": 0.9,
    "gradient": 0.8,
    "grad-x-input": 0.8,
}


@cache
def scenes():
    spec = importlib.util.spec_from_file_location("digit_scenes", DIGITS / "scenes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.held_out_scenes(COUNT)


@cache
def hits(method):
    """Return, for each scene, whether the map of the true class is highest within the digit's box."""
    model = onnxsal.load(DIGITS / "digits.onnx")
    found = []
    for picture, label, (x1, y1, x2, y2) in scenes():
        heatmap = model.explain(picture, method, label).heatmap
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        found.append(x1 <= x < x2 and y1 <= y < y2)
    return np.array(found)


@pytest.mark.parametrize("method", FLOORS)
def test_the_hottest_place_is_on_the_digit(method):
    assert hits(method).mean() >= FLOORS[method]


def test_every_method_points_better_than_chance():
    area = np.mean([(x2 - x1) * (y2 - y1) / (p.shape[0] * p.shape[1]) for p, _, (x1, y1, x2, y2) in scenes()])
    assert min(hits(name).mean() for name in methods(sampled=False)) > 2 * area


if __name__ == "__main__":
    for name in methods(sampled=False):
        print(f"| `{name}` | {100 * hits(name).mean():.1f} % |")
