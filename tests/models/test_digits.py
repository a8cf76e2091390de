"""The digits model is what its README says, judged by ONNX Runtime alone."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

DIGITS = Path(__file__).parents[2] / "models" / "digits"
MODEL = DIGITS / "digits.onnx"
SAMPLES = json.loads((DIGITS / "scenes" / "scenes.json").read_text())


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("digits_scenes", DIGITS / "scenes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def card() -> dict[str, object]:
    metadata = {prop.key: prop.value for prop in onnx.load(MODEL).metadata_props}
    return {key.removeprefix("onnxsal."): json.loads(value) for key, value in metadata.items()}


def classify(pixels: np.ndarray, card: dict) -> np.ndarray:
    """Answer (N, H, W, 3) uint8 with the top classes, going by the card alone."""
    x = (pixels * card["scale"] - card["mean"]) / card["std"]
    x = x.transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return session.run([card["output"]], {card["input"]: x})[0].argmax(axis=1)


def test_at_least_95_percent_of_200_held_out_scenes_are_right(scenes, card):
    pixels, labels, _ = zip(*scenes.held_out_scenes(200, seed=0), strict=True)
    assert np.mean(classify(np.stack(pixels), card) == labels) >= 0.95


def test_the_card_says_how_to_read_and_call_the_model(card):
    assert card["task"] == "classification"
    assert (card["layout"], card["channels"], card["resize"]) == ("NCHW", "RGB", "stretch")
    assert card["size"] == [96, 96]
    assert card["labels"] == [f"digit {digit}" for digit in range(10)]


def test_the_model_is_one_small_valid_file_with_a_dynamic_batch():
    model = onnx.load(MODEL, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size < 2_000_000
    assert model.ir_version <= 10
    assert 18 <= model.opset_import[0].version <= 20
    assert [value.name for value in model.graph.input] == ["image"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    operators = {node.op_type for node in model.graph.node}
    assert {"Conv", "BatchNormalization", "Relu", "MaxPool", "GlobalAveragePool", "Gemm"} <= operators


def test_samples_are_the_first_held_out_scenes(scenes):
    for sample, (pixels, label, box) in zip(SAMPLES, scenes.held_out_scenes(len(SAMPLES)), strict=True):
        assert (sample["label"], tuple(sample["box"])) == (label, box)
        # Another build of numpy or scipy may round the last bit of a pixel the other way.
        assert_allclose(np.asarray(Image.open(DIGITS / "scenes" / sample["file"]), float), pixels, atol=1)


def test_samples_have_their_box_within_the_picture():
    for sample in SAMPLES:
        x1, y1, x2, y2 = sample["box"]
        assert np.asarray(Image.open(DIGITS / "scenes" / sample["file"])).shape == (96, 96, 3)
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 96


def test_the_same_seed_gives_the_same_scenes_and_another_seed_gives_others(scenes):
    once, again, other = (scenes.held_out_scenes(5, seed) for seed in (3, 3, 4))
    for (pixels, *truth), (pixels_again, *truth_again) in zip(once, again, strict=True):
        assert_array_equal(pixels, pixels_again)
        assert truth == truth_again
    assert all((one[0] != two[0]).any() for one, two in zip(once, other, strict=True))


def test_fewer_scenes_are_the_first_of_more(scenes):
    assert_array_equal(scenes.held_out_scenes(2)[1][0], scenes.held_out_scenes(4)[1][0])


def test_no_glyph_is_in_two_splits(scenes):
    rows = [index for split in scenes.SPLITS.values() for index in range(1797)[split]]
    assert sorted(rows) == list(range(1797))


def test_the_box_holds_the_ink_and_no_decoy(scenes):
    rng = np.random.default_rng(0)
    for _ in range(50):
        ink, box = scenes.place(scenes.write(scenes.glyphs("train")[0][rng.integers(1287)], rng), rng)
        x1, y1, x2, y2 = box
        outside = ink.copy()
        outside[y1:y2, x1:x2] = 0
        assert outside.max() <= 0.1
        assert all(mask[y1:y2, x1:x2].max() <= 0.1 for mask in scenes.decoys("train", [box], rng))
