"""How the detectors of a family are fed, where nothing says it of a model."""

import numpy as np
import onnx
import pytest
from support.heads import head
from zoo.shared import card_of, model_path, needs_zoo

import onnxsal
from onnxsal.detectors.families import decoders
from onnxsal.detectors.preparation import PREPARATION
from onnxsal.model.card import parse_card


def yolox() -> onnx.ModelProto:
    """A head of YOLOX on 64 x 64."""
    return head({"output": np.zeros((1, 8 * 8 + 4 * 4 + 2 * 2, 10), np.float32)})


@pytest.mark.parametrize("family", PREPARATION)
def test_what_is_usual_is_said_of_decoders_in_the_words_of_cards(family: str) -> None:
    assert family in decoders()
    said = {key: list(v) if isinstance(v, tuple) else v for key, v in PREPARATION[family].items()}
    assert parse_card(said, family).to_dict().keys() == said.keys()


def test_what_a_card_says_of_a_detector_outranks_its_family() -> None:
    said = onnxsal.load(yolox(), card={"task": "detection", "scale": 0.5, "resize": "stretch"}).card
    assert (said.card.scale, said.card.resize) == (0.5, "stretch")


@needs_zoo
@pytest.mark.parametrize("stem", ["yolox_nano_416", "ultraface_rfb_320"])
def test_shared_detectors_without_a_card_are_fed_as_their_cards_say(stem: str) -> None:
    found, true = onnxsal.load(model_path(stem).read_bytes()).card, card_of(stem)
    for key in ("layout", "size", "resize", "channels", "scale", "mean", "std"):
        assert getattr(found.card, key) == getattr(true, key), key
    assert found.sources["scale"].startswith("guess: as ")
