"""Where a card comes from: every source, their order, and the guess at the end."""

import json

import pytest

from onnxsal.errors import CardError, UnsupportedModel
from onnxsal.model.card import Card, InputInfo, resolve_card

IMAGE = InputInfo("data", "float32", ("N", 3, 224, 224))
CLASSES = InputInfo("prob", "float32", ("N", 1000))


def resolve(inputs=(IMAGE,), outputs=(CLASSES,), metadata=None, **rest):
    return resolve_card(inputs, outputs, metadata or {}, **rest)


# ----- Order -----


@pytest.fixture
def crowd(tmp_path):
    """A model file around which every source says something else of `interpolation`, or of `labels`."""
    (tmp_path / "m.toml").write_text('interpolation = "nearest"')
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224, "resample": 1}))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(k): f"hf{k}" for k in range(1000)}}))
    (tmp_path / "labels.txt").write_text("\n".join(f"txt{k}" for k in range(1000)))
    metadata = {
        "onnxsal.interpolation": '"bilinear"',
        "model_info interpolation_mode": "CUBIC",
        "author": "Ultralytics",
        "Image.BitmapPixelFormat": "Bgr8",
    }
    return tmp_path / "m.onnx", metadata


def test_sources_speak_in_order(crowd):
    path, metadata = crowd
    found = []
    steps = [{"interpolation": "lanczos"}, None]
    found = [resolve(metadata=metadata, path=path, override=step).sources["interpolation"] for step in steps]
    path.with_suffix(".toml").unlink()
    while metadata:
        found.append(resolve(metadata=metadata, path=path).sources["interpolation"])
        metadata.pop(next(iter(metadata)))
    path.with_name("preprocessor_config.json").unlink()
    found.append(resolve(path=path).sources["interpolation"])
    assert found == [
        "argument",
        "sidecar m.toml",
        "metadata onnxsal.*",
        "metadata model_info",
        "metadata Ultralytics",
        "preprocessor_config.json",
        "guess, the usual choice",
    ]


def test_labels_come_from_config_json_before_labels_txt(crowd):
    path, _ = crowd
    assert resolve(path=path).card.labels[0] == "hf0"
    path.with_name("config.json").unlink()
    resolved = resolve(path=path)
    assert (resolved.card.labels[0], resolved.sources["labels"]) == ("txt0", "labels.txt")


def test_merging_goes_field_by_field(tmp_path):
    (tmp_path / "m.toml").write_text("mean = 7")
    resolved = resolve(metadata={"onnxsal.mean": "1", "onnxsal.std": "2"}, path=tmp_path / "m.onnx")
    assert (resolved.card.mean, resolved.card.std) == ((7.0,), (2.0,))
    assert resolved.sources["mean"] == "sidecar m.toml"
    assert resolved.sources["std"] == "metadata onnxsal.*"


def test_a_crop_does_not_outlive_the_resize_it_belongs_to():
    metadata = {"onnxsal.resize": '"shortest_edge"', "onnxsal.resize_to": "256", "onnxsal.crop": '"center"'}
    card = resolve(metadata=metadata, override={"resize": "stretch"}).card
    assert (card.resize, card.resize_to, card.crop) == ("stretch", None, None)


def test_an_override_may_be_a_card_a_mapping_or_a_file(tmp_path):
    (tmp_path / "c.toml").write_text("scale = 2")
    for override in (Card(scale=2), {"scale": 2}, tmp_path / "c.toml", str(tmp_path / "c.toml")):
        assert resolve(override=override).card.scale == 2
    assert resolve(override=tmp_path / "c.toml").sources["scale"] == "card c.toml"


def test_an_override_of_another_kind_is_refused():
    with pytest.raises(CardError, match=r"a Card, a mapping or the path of a \.toml file, not int"):
        resolve(override=3)


# ----- Own files fail loudly, files of other projects become notes -----


def test_a_broken_sidecar_is_an_error(tmp_path):
    (tmp_path / "m.toml").write_text('resize = "crop"')
    with pytest.raises(CardError, match=r"sidecar m.toml: resize = 'crop' is not one of"):
        resolve(path=tmp_path / "m.onnx")


@pytest.mark.parametrize("labels_file", ["../secret.txt", "/etc/hostname"])
def test_a_sidecar_cannot_have_files_read_outside_its_folder(tmp_path, labels_file):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.toml").write_text(f'labels_file = "{labels_file}"')
    with pytest.raises(CardError, match="lies outside the model's folder"):
        resolve(path=tmp_path / "model" / "m.onnx")


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json"])
def test_json_that_cannot_be_read_is_noted_and_passed_over(tmp_path, name):
    (tmp_path / name).write_text("{")
    assert resolve(path=tmp_path / "m.onnx").notes == (f"{name}: not JSON; ignored",)


def test_labels_that_are_not_text_are_noted_and_passed_over(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xff\xff")
    resolved = resolve(path=tmp_path / "m.onnx")
    assert resolved.card.labels is None
    assert "labels.txt is not UTF-8" in resolved.notes[0]


def test_values_of_other_projects_that_no_card_can_hold_are_noted(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224, "image_std": [0, 0, 0]}))
    resolved = resolve(path=tmp_path / "m.onnx")
    assert "std = (0.0, 0.0, 0.0) is not a number above 0; ignored" in resolved.notes[0]
    assert resolved.sources["std"].startswith("guess")


def test_labels_of_another_model_in_the_folder_are_left_out(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog")
    resolved = resolve(path=tmp_path / "m.onnx")
    assert resolved.card.labels is None
    assert resolved.notes == ("labels.txt: 2 labels are not for a model of 1000 classes; ignored",)


def test_configuration_one_folder_up_is_found_where_exports_for_browsers_keep_it(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224, "image_mean": [0.5] * 3}))
    assert resolve(path=tmp_path / "onnx" / "model.onnx").card.mean == (0.5, 0.5, 0.5)
    assert resolve(path=tmp_path / "onnx.onnx").card.mean == (0.5, 0.5, 0.5)
    assert resolve(path=tmp_path / "other" / "model.onnx").card.mean != (0.5, 0.5, 0.5)


# ----- The input -----


def test_the_only_image_among_several_inputs_is_found():
    question = InputInfo("question", "int64", ("N", 20))
    mask = InputInfo("mask", "float32", ("N", 8, 14, 14))
    resolved = resolve([question, mask, IMAGE])
    assert (resolved.card.input, resolved.image) == ("data", IMAGE)


def test_an_input_without_any_known_length_will_do_if_it_is_alone():
    card = resolve([InputInfo("x", "float32", (None, None, None, None))]).card
    assert (card.layout, card.channels, card.size) == ("NCHW", "RGB", (224, 224))


@pytest.mark.parametrize(
    "value",
    [
        InputInfo("x", "float32", (None, 286)),
        InputInfo("x", "int64", (1, 3, 8, 8)),
        InputInfo("x", "float32", (1, 16, 8, 8)),
        InputInfo("x", "float32", None),
    ],
)
def test_a_model_without_image_input_is_refused_saying_what_it_has(value):
    with pytest.raises(UnsupportedModel, match=r"no image input: none of the inputs .*'x'"):
        resolve([value])


def test_several_images_need_the_card_to_choose():
    left, right = InputInfo("left", "float32", (1, 3, 8, 8)), InputInfo("right", "float32", (1, 3, 8, 8))
    with pytest.raises(UnsupportedModel, match=r"several inputs could take the image .*input = 'left'"):
        resolve([left, right])
    assert resolve([left, right], override={"input": "right"}).image == right


def test_a_named_input_must_exist_and_hold_images():
    with pytest.raises(CardError, match="argument: input = 'datum' is not an input of the model; these are: 'data'"):
        resolve(override={"input": "datum"})
    with pytest.raises(CardError, match=r"input 'q' is int64 .*which holds no image"):
        resolve([IMAGE, InputInfo("q", "int64", (1, 2))], override={"input": "q"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"layout": "NHWC"}, "layout = 'NHWC' does not fit input 'data' .* would then have 224 channels"),
        ({"channels": "GRAY"}, "channels = 'GRAY' does not fit input 'data' .* has 3 channels"),
        ({"size": [256, 256]}, r"size = \[256, 256\] does not fit .* only takes \[224, 224\]"),
        ({"channels": "RGB", "mean": [1, 2, 3, 4]}, r"mean = \[1.0, 2.0, 3.0, 4.0\] does not fit .* takes 3 channels"),
    ],
)
def test_a_card_that_contradicts_the_input_is_refused_with_its_source(override, message):
    with pytest.raises(CardError, match=f"argument: {message}"):
        resolve([InputInfo("data", "float32", (1, 3, 224, 224))], override=override)


def test_a_size_that_other_projects_have_wrong_is_noted(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 384}))
    resolved = resolve(path=tmp_path / "m.onnx")
    assert resolved.card.size == (224, 224)
    assert resolved.sources["size"] == "shape (N, 3, 224, 224)"
    assert resolved.notes == ("preprocessor_config.json: size [384, 384] is not the model's [224, 224]; ignored",)


# ----- The guess -----


def guessed(shape, dtype="float32", outputs=(1, 1000), **rest):
    return resolve([InputInfo("x", dtype, shape)], [InputInfo("y", "float32", outputs)], **rest).card


def test_a_classifier_of_a_thousand_classes_is_taken_for_imagenet():
    card = guessed((1, 3, 224, 224))
    assert (card.scale, card.mean, card.std) == (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (card.resize, card.resize_to, card.crop, card.size) == ("shortest_edge", 256, "center", (224, 224))
    assert (card.layout, card.channels, card.task, card.background) == ("NCHW", "RGB", "classification", None)


def test_a_thousand_and_one_classes_are_taken_for_tensorflow_with_background():
    card = guessed((1, 224, 224, 3), outputs=(1, 1001))
    assert (card.layout, card.background, card.scale, card.mean) == ("NHWC", True, 1 / 127.5, (1.0,))


def test_a_thousand_classes_from_caffe_are_fed_blue_first():
    facts = {"producer": "onnx-caffe2"}
    card = guessed((1, 3, 224, 224), facts=facts)
    assert (card.channels, card.scale, card.mean, card.std) == ("BGR", 1.0, (103.939, 116.779, 123.68), (1.0,))
    assert (card.resize, card.resize_to) == ("shortest_edge", 256)
    assert guessed((1, 3, 224, 224), facts=facts, override={"channels": "RGB"}).scale == 1 / 255
    assert guessed((1, 3, 224, 224), outputs=(1, 10), facts=facts).channels == "RGB"


def test_other_models_get_the_usual_range_and_are_stretched():
    card = guessed((1, 1, 28, 28), outputs=(1, 10))
    assert (card.channels, card.scale, card.mean, card.std) == ("GRAY", 1 / 255, (0.0,), (1.0,))
    assert (card.resize, card.resize_to) == ("stretch", None)


def test_integer_inputs_get_raw_pixels():
    assert (guessed((1, 3, 9, 9), "uint8").scale, guessed((1, 3, 9, 9), "uint8").mean) == (1.0, (0.0,))
    assert (guessed((1, 3, 9, 9), "int8").scale, guessed((1, 3, 9, 9), "int8").mean) == (1.0, (128.0,))


def test_a_graph_that_scales_its_input_gets_raw_pixels():
    assert guessed((1, 3, 224, 224), facts={"normalises": True}).scale == 1.0


def test_what_the_graph_knows_of_its_layout_outranks_the_shape():
    assert guessed((1, 3, 224, 3), facts={"layout": "NHWC"}).layout == "NHWC"


def test_labels_one_short_of_the_classes_have_a_background_before_them(tmp_path):
    (tmp_path / "labels.txt").write_text("face")
    card = guessed((1, 3, 9, 9), outputs=(1, 2), path=tmp_path / "m.onnx")
    assert (card.labels, card.background) == (("face",), True)


def test_the_order_of_known_means_tells_the_order_of_channels():
    assert guessed((1, 3, 9, 9), override={"mean": [103.939, 116.779, 123.68]}).channels == "BGR"
    assert guessed((1, 3, 9, 9), override={"mean": [123.68, 116.779, 103.939]}).channels == "RGB"


def test_half_said_normalisation_is_completed_to_match():
    assert guessed((1, 3, 9, 9), override={"mean": [0.5, 0.5, 0.5]}).scale == 1 / 255
    assert guessed((1, 3, 9, 9), override={"mean": 127.5}).scale == 1.0
    assert guessed((1, 3, 224, 224), override={"scale": 1.0}).mean == (0.0,)


def test_every_guess_is_announced_and_nothing_else_is():
    resolved = resolve([InputInfo("x", "float32", (1, 3, None, None))])
    assert resolved.sources["size"] == "guess from shape (1, 3, ?, ?)"
    assert set(resolved.guesses) == set(resolved.sources) - {"input", "pad_value"}  # nothing is padded
    said = {"layout": "NCHW", "size": 8, "mean": 0, "std": 1, "scale": 1, "channels": "RGB", "resize": "stretch"}
    said |= {"interpolation": "bilinear", "pad_value": 0, "task": "classification", "background": False}
    assert resolve([InputInfo("x", "float32", (1, 3, None, None))], override=said).guesses == ()


FAMILY = {
    "channels": "BGR",
    "scale": 1.0,
    "mean": (1.0, 2.0, 3.0),
    "std": (4.0,),
    "resize": "letterbox",
    "pad_value": 9.0,
}


def better(shape=(1, 3, 9, 9), **override):
    return resolve([InputInfo("x", "float32", shape)], override=override).guessing("guess: as usual", FAMILY)


def test_what_is_usual_for_a_family_outranks_what_is_usual_for_all():
    found = better()
    assert {key: getattr(found.card, key) for key in FAMILY} == FAMILY
    assert {found.sources[key] for key in FAMILY} == {"guess: as usual"}
    assert set(FAMILY) <= set(found.guesses)


def test_what_is_usual_for_a_family_yields_to_what_anyone_says():
    found = better(resize="stretch", std=0.5)
    assert (found.card.resize, found.card.std, found.card.channels) == ("stretch", (0.5,), "BGR")
    assert (found.card.scale, found.card.mean) == (1 / 255, (0.0,))  # they belong to the deviation that is said
    assert better(pad_value=7).card.pad_value == 7


@pytest.mark.parametrize("channels", ["RGB", "GRAY"])
def test_means_of_other_channels_are_not_taken(channels):
    found = better((1, 1 if channels == "GRAY" else 3, 9, 9), channels=channels)
    assert (found.card.channels, found.card.scale, found.card.mean) == (channels, 1 / 255, (0.0,))
    assert found.card.resize == "letterbox"


def test_nothing_that_preprocessing_needs_is_left_open():
    card = guessed((1, 3, None, None), outputs=None)
    for field in (
        "layout",
        "size",
        "resize",
        "interpolation",
        "pad_value",
        "scale",
        "mean",
        "std",
        "channels",
        "input",
    ):
        assert getattr(card, field) is not None
