"""The card itself: what it holds, what it refuses, how it travels in files."""

import json

import pytest

from onnxsal.errors import CardError
from onnxsal.model.card import Card, card_from_metadata, card_to_metadata, parse_card, read_card

FULL = {
    "task": "classification",
    "input": "data",
    "output": "prob",
    "layout": "NHWC",
    "size": [224, 192],
    "resize": "shortest_edge",
    "resize_to": 256,
    "crop": "center",
    "rounding": "transformers",
    "interpolation": "bicubic",
    "pad_value": 114.0,
    "scale": 1 / 255,
    "mean": [0.5, 0.25, 0.125],
    "std": [0.5],
    "channels": "BGR",
    "labels": ["cat", "dog"],
    "background": True,
}


def test_a_card_survives_the_journey_through_metadata():
    card = parse_card(FULL, "test")
    assert card_from_metadata(card_to_metadata(card)) == card
    assert card.to_dict() == FULL


def test_a_card_is_hashable_and_says_what_it_says():
    card = Card(size=(8, 4), mean=(1.0,))
    assert hash(card) == hash(Card(size=(8, 4), mean=(1.0,)))
    assert card.said() == {"size": (8, 4), "mean": (1.0,)}


def test_toml_is_read_with_numbers_where_one_serves_all(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text('size = 32\nmean = 127\nchannels = "rgb"\nlabels = ["a"]\n')
    assert read_card(path) == Card(size=(32, 32), mean=(127.0,), channels="RGB", labels=("a",))


def test_labels_come_from_a_file_beside_the_card(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffcat\nd\u00f6g\n\n".encode())
    (tmp_path / "m.toml").write_text('labels_file = "names.txt"')
    assert read_card(tmp_path / "m.toml").labels == ("cat", "d\u00f6g")


def test_labels_come_from_another_folder_when_told(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "names.txt").write_text("cat")
    (tmp_path / "m.toml").write_text('labels_file = "names.txt"')
    assert read_card(tmp_path / "m.toml", labels_folder=tmp_path / "elsewhere").labels == ("cat",)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"reszie": "stretch"}, "here: unknown key 'reszie'; did you mean 'resize'?"),
        ({"zzz": 1}, "here: unknown key 'zzz'; a card knows task, input"),
        ({"resize": "letterbx"}, "here: resize = 'letterbx' is not one of stretch, .*; did you mean 'letterbox'"),
        ({"layout": 3}, "here: layout = 3 is not one of NCHW, NHWC"),
        ({"size": [224]}, r"here: size = \[224\] is not \[height, width\] in pixels"),
        ({"size": [224, 0]}, "is not a whole number of pixels from 1 to 16384"),
        ({"size": True}, "is not a whole number of pixels"),
        ({"size": 10**9}, "is not a whole number of pixels"),
        ({"pad_value": 300}, "pad_value = 300 is not a number from 0 to 255"),
        ({"scale": 0}, "scale = 0 is not a number above 0"),
        ({"scale": float("nan")}, "scale = nan is not a finite number"),
        ({"scale": 10**400}, "is not a finite number"),
        ({"std": [1, 0, 1]}, "is not a number above 0"),
        ({"mean": [1, 2]}, r"mean = \[1, 2\] is not one number, or one per channel"),
        ({"mean": ["0.5"]}, "is not a finite number"),
        ({"labels": "cat dog"}, "labels = 'cat dog' is not a list of names"),
        ({"labels": [1, 2]}, "each in quotes"),
        ({"labels": []}, "is not a list of names"),
        ({"background": 1}, "background = 1 is not true or false"),
        ({"input": ""}, "is not the name of a value"),
    ],
)
def test_a_malformed_card_is_refused_naming_place_key_value_and_what_is_allowed(said, message):
    with pytest.raises(CardError, match=message):
        parse_card(said, "here")


def test_a_card_made_in_python_is_checked_too():
    with pytest.raises(CardError, match="card: resize = 'squash' is not one of"):
        Card(resize="squash")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"size = ", "card m.toml: not valid TOML"),
        (b"\xff\xfe", "card m.toml: m.toml is not UTF-8 text"),
        (b'labels_file = "absent.txt"', "card m.toml: cannot read .*absent.txt: No such file"),
        (b"labels_file = 3", "labels_file must be one path"),
        (b'labels_file = "a"\nlabels = ["b"]', "labels then be left out"),
    ],
)
def test_a_file_that_is_no_card_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "m.toml"
    path.write_bytes(content)
    with pytest.raises(CardError, match=message):
        read_card(path)


def test_an_absent_card_is_refused_by_name(tmp_path):
    with pytest.raises(CardError, match=r"card absent.toml: cannot read .*absent.toml"):
        read_card(tmp_path / "absent.toml")


def test_an_error_is_one_line_whatever_the_value():
    with pytest.raises(CardError) as caught:
        parse_card({"re\nsize\x1b[31m": 1}, "here")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_metadata_that_is_not_json_is_refused_by_key():
    with pytest.raises(CardError, match=r"metadata onnxsal.size: 'big' is not JSON"):
        card_from_metadata({"onnxsal.size": "big"})


def test_other_keys_of_the_prefix_are_left_to_others():
    assert card_from_metadata({"onnxsal.method": "grad-cam", "onnxsal.size": json.dumps([4, 4])}) == Card(size=(4, 4))


def test_labels_of_a_model_with_background_are_one_behind():
    card = Card(labels=("tench", "goldfish"), background=True)
    assert [card.label_of(k) for k in range(4)] == ["background", "tench", "goldfish", "class 3"]


def test_a_class_without_label_still_has_a_name():
    assert Card().label_of(7) == "class 7"
    assert Card(labels=("", "b")).label_of(0) == "class 0"
    assert Card(labels=("a",)).label_of(-1) == "class -1"


def test_labels_lose_what_could_forge_a_second_line():
    assert Card(labels=("ca\nt\x1b[2J\u202e\u2028x",)).labels == ("ca t [2J x",)
