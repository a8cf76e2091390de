"""The digits detector is what its README says: it finds the digits, and the heat lies on them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import onnxsal

DIGITS = Path(__file__).parents[2] / "models" / "digits"
DETECTOR = DIGITS / "detector.onnx"
SAMPLES = json.loads((DIGITS / "crowds" / "crowds.json").read_text())


@pytest.fixture(scope="module")
def made() -> SimpleNamespace:
    """The scripts of models/digits that need no training framework, by name."""
    pytest.importorskip("sklearn")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DIGITS)
        import crowds
        import detections
        import pointing

        for name in ("scenes", "crowds", "detections", "pointing"):
            patch.delitem(sys.modules, name)
    return SimpleNamespace(crowds=crowds, detections=detections, pointing=pointing)


@pytest.fixture(scope="module")
def detector() -> onnxsal.Model:
    return onnxsal.load(DETECTOR)


def test_the_file_is_small_and_takes_any_batch() -> None:
    model = onnx.load(DETECTOR)
    onnx.checker.check_model(model, full_check=True)
    assert DETECTOR.stat().st_size < 300_000
    assert model.ir_version <= 10
    (image,) = model.graph.input
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", 3, 128, 128]


def test_its_head_is_recognised_as_yoloxs_and_its_card_says_the_rest(detector) -> None:
    card = detector.card.card
    assert (card.task, card.size, card.labels[7]) == ("detection", (128, 128), "digit 7")
    assert detector.card.guesses == ()
    assert detector.inspect().detectors[0]["decoder"] == "yolox"


def test_it_finds_most_digits_of_30_held_out_pictures_and_little_else(made, detector) -> None:
    crowds = made.crowds.held_out_crowds(30)
    found = [[(d.index, d.box) for d in one] for one in detector.detect([crowd.pixels for crowd in crowds])]
    right = [made.pointing.true_boxes(one, crowd) for one, crowd in zip(found, crowds, strict=True)]
    digits = sum(len(set(one.values())) for one in right)
    assert digits >= 0.85 * sum(len(crowd.labels) for crowd in crowds)
    assert digits >= 0.85 * sum(map(len, found))


@pytest.mark.parametrize(
    ("method", "settings", "times", "hits"),
    [
        ("d-rise", {"samples": 120, "batch_size": 32}, 3, 0.8),
        ("odam", {}, 5, 0.8),
        ("grad-cam", {}, 2, 0.5),  # it hardly tells digits apart
        ("gradient", {}, 3, 0.8),
    ],
)
def test_the_heat_lies_on_the_digit_that_is_explained(made, detector, method, settings, times, hits) -> None:
    rounds = list(made.pointing.play(detector, made.crowds.held_out_crowds(3), method, **settings))
    assert len(rounds) >= 6
    energy, area, hit = (np.mean([getattr(one, field) for one in rounds]) for field in ("energy", "area", "hit"))
    assert energy > times * area
    assert hit > hits


def test_a_round_counts_the_heat_within_the_boxes(made) -> None:
    heat = np.zeros((10, 20))
    heat[2:4, 2:4], heat[8, 10:12], heat[0, 0] = 1, 2.5, 1  # 10 in all
    first, second = (made.pointing.judge(heat, [(2, 2, 6, 4), (10, 8, 12, 10)], own) for own in (0, 1))
    assert (first.energy, first.others, first.area, first.hit) == (0.4, 0.5, 0.04, False)
    assert (second.energy, second.others, second.area, second.hit) == (0.5, 0.4, 0.02, True)


def test_average_precision_is_one_for_the_truth_and_falls_with_every_mistake(made) -> None:
    d = made.detections
    boxes, labels = np.array([[0, 0, 10, 10], [20, 20, 40, 40.0]]), np.array([3, 3])
    right = d.Found(boxes, labels, np.array([0.9, 0.8]))
    assert d.mean_average_precision([right], [(labels, boxes)], 0.5) == 1
    # A false one in between: precision 1 up to half the recall, 2/3 from there.
    wrong = d.Found(np.insert(boxes, 1, [50, 50, 60, 60], 0), np.array([3, 3, 3]), np.array([0.9, 0.85, 0.8]))
    assert_allclose(d.mean_average_precision([wrong], [(labels, boxes)], 0.5), (51 + 50 * 2 / 3) / 101)
    # The same digit found twice counts once.
    twice = d.Found(boxes[[0, 0]], labels, np.array([0.9, 0.8]))
    assert_array_equal(d.matches(twice, labels, boxes, 0.5), [0, -1])


def test_rows_are_read_and_suppressed_within_a_class(made) -> None:
    rows = np.zeros((3, 5 + 10), np.float32)
    rows[:, :5] = [[10, 10, 8, 8, 0.9], [11, 10, 8, 8, 0.8], [10, 10, 8, 8, 0.7]]
    rows[[0, 1, 2], [5 + 4, 5 + 4, 5 + 9]] = 1
    found = made.detections.read_rows(rows, 0.1)
    assert_array_equal(found.labels, [4, 9])
    assert_allclose(found.boxes, [[6, 6, 14, 14]] * 2)


def test_samples_are_the_first_held_out_pictures(made) -> None:
    for sample, crowd in zip(SAMPLES, made.crowds.held_out_crowds(len(SAMPLES)), strict=True):
        assert tuple(sample["labels"]) == crowd.labels
        assert tuple(map(tuple, sample["boxes"])) == crowd.boxes
        # Another build of numpy or scipy may round the last bit of a pixel the other way.
        assert_allclose(np.asarray(Image.open(DIGITS / "crowds" / sample["file"]), float), crowd.pixels, atol=1)


def test_digits_of_a_picture_do_not_touch_and_a_seed_is_a_picture(made) -> None:
    for index in range(5):
        crowd = made.crowds.make_crowd("train", 7, index)
        assert 2 <= len(crowd.labels) == len(crowd.boxes) <= 4
        shared = made.detections.iou(np.array(crowd.boxes, float), np.array(crowd.boxes, float))
        assert_array_equal(shared, np.eye(len(crowd.boxes)))
        assert_array_equal(crowd.pixels, made.crowds.make_crowd("train", 7, index).pixels)
    assert (crowd.pixels != made.crowds.make_crowd("train", 8, index).pixels).any()
