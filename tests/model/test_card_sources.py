"""What other projects write, translated into a card."""

import json

import pytest

from onnxsal.model.card import InputInfo, resolve_card

IMAGE = InputInfo("images", "float32", (1, 3, "H", "W"))


def from_metadata(metadata):
    return resolve_card([IMAGE], [], metadata)


def from_files(tmp_path, **files):
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return resolve_card([IMAGE], [], {}, tmp_path / "m.onnx")


# ----- OpenVINO model_api -----


def test_model_api_is_understood():
    card = from_metadata(
        {
            "model_info model_type": "Classification",
            "model_info labels": "cat polar_bear",
            "model_info mean_values": "123.675 116.28 103.53",
            "model_info scale_values": "58.395 57.12 57.375",
            "model_info reverse_input_channels": "True",
            "model_info resize_type": "fit_to_window_letterbox",
            "model_info pad_value": "114",
            "model_info interpolation_mode": "CUBIC",
        }
    ).card
    assert (card.task, card.labels, card.channels) == ("classification", ("cat", "polar_bear"), "RGB")
    assert (card.scale, card.mean, card.std) == (1.0, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (card.resize, card.pad_value, card.interpolation) == ("letterbox", 114.0, "bicubic")


def test_model_api_without_a_word_on_channels_leaves_them_open():
    resolved = from_metadata({"model_info reverse_input_channels": "False", "model_info scale_values": "255"})
    assert resolved.sources["channels"].startswith("guess")
    assert (resolved.card.std, resolved.card.mean) == ((255.0,), (0.0,))


def test_model_api_intensity_scaling_is_understood():
    card = from_metadata({"model_info intensity_mode": "scale_to_unit", "model_info mean_values": "0.5 0.5 0.5"}).card
    assert (card.scale, card.mean) == (1 / 255, (0.5, 0.5, 0.5))


def test_model_api_nonsense_is_noted():
    resolved = from_metadata({"model_info mean_values": "one two", "model_info intensity_mode": "window"})
    assert resolved.notes == (
        "metadata model_info: model_info mean_values is not what its name says; ignored",
        "metadata model_info: its intensity_mode has no word in a card; ignored",
    )


# ----- Ultralytics -----

YOLO = {"author": "Ultralytics", "task": "detect", "stride": "32", "imgsz": "[640, 480]", "names": "{0: 'a', 1: 'b'}"}


def test_ultralytics_detectors_are_letterboxed():
    card = from_metadata(YOLO).card
    assert (card.task, card.size, card.labels) == ("detection", (640, 480), ("a", "b"))
    assert (card.resize, card.pad_value, card.scale, card.channels) == ("letterbox", 114.0, 1 / 255, "RGB")


def test_ultralytics_classifiers_are_cropped():
    card = from_metadata(YOLO | {"task": "classify"}).card
    assert (card.task, card.resize, card.resize_to, card.crop) == ("classification", "shortest_edge", None, "center")


def test_ultralytics_grey_models_are_grey():
    image = InputInfo("images", "float32", (1, 1, 640, 480))
    assert resolve_card([image], [], YOLO | {"channels": "1"}).card.channels == "GRAY"


@pytest.mark.parametrize(
    "names",
    [
        "__import__('os').system('echo no')",
        "{0: 'a'",
        "(" * 5000,
        "9" * 2_000_000,
        "{0: 'a', 2: 'b'}",
        "{0: 'a', 'x': 'b'}",
        "{}",
        "3",
        "[" * 150 + "]" * 150,
    ],
)
def test_names_that_are_no_dictionary_of_classes_are_noted_and_never_run(names, capfd):
    resolved = from_metadata(YOLO | {"names": names})
    assert resolved.card.labels is None or names.startswith("[[")
    assert resolved.notes or names.startswith("[[")
    assert capfd.readouterr().out == ""


# ----- ONNX image metadata -----


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("NominalRange_0_255", 0, 255),
        ("Normalized_0_1", 0, 1),
        ("Normalized_1_1", -1, 1),
        ("NOMINALRANGE_16_235", 16, 235),
    ],
)
def test_onnx_pixel_ranges_map_black_and_white(name, black, white):
    card = from_metadata({"Image.NominalPixelRange": name, "image.bitmappixelformat": "bgr8"}).card
    assert card.channels == "BGR"
    assert (0 * card.scale - card.mean[0]) / card.std[0] == pytest.approx(black)
    assert (255 * card.scale - card.mean[0]) / card.std[0] == pytest.approx(white)


def test_unknown_onnx_image_metadata_is_noted():
    resolved = from_metadata({"Image.NominalPixelRange": "big", "Image.BitmapPixelFormat": "Yuv"})
    assert len(resolved.notes) == 2


# ----- Hugging Face -----


def test_vit_preprocessors_stretch(tmp_path):
    config = {"do_resize": True, "size": {"height": 224, "width": 192}, "resample": 2, "image_mean": [0.5] * 3}
    card = from_files(tmp_path, preprocessor_config=config | {"image_std": [0.25] * 3}).card
    assert (card.resize, card.size, card.interpolation) == ("stretch", (224, 192), "bilinear")
    assert (card.scale, card.mean, card.std) == (1 / 255, (0.5,) * 3, (0.25,) * 3)


def test_clip_preprocessors_crop_from_the_shortest_edge(tmp_path):
    config = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    card = from_files(tmp_path, preprocessor_config=config | {"resample": 3}).card
    assert (card.resize, card.resize_to, card.size) == ("shortest_edge", 256, (224, 224))
    assert (card.rounding, card.interpolation) == ("transformers", "bicubic")


def test_convnext_preprocessors_crop_by_a_fraction(tmp_path):
    small = from_files(tmp_path, preprocessor_config={"size": {"shortest_edge": 224}, "crop_pct": 0.875}).card
    assert (small.resize, small.resize_to, small.size) == ("shortest_edge", 256, (224, 224))
    large = from_files(tmp_path, preprocessor_config={"size": {"shortest_edge": 384}, "crop_pct": 0.875}).card
    assert (large.resize, large.resize_to, large.size) == ("stretch", None, (384, 384))


def test_efficientnet_preprocessors_shift_before_the_mean(tmp_path):
    config = {"size": 224, "rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": [0.5] * 3}
    card = from_files(tmp_path, preprocessor_config=config).card
    assert (card.scale, card.mean) == (1 / 127.5, (1.5,) * 3)


def test_steps_that_are_switched_off_stay_off(tmp_path):
    config = {"do_resize": False, "do_rescale": False, "do_normalize": False, "image_mean": [0.5] * 3}
    card = from_files(tmp_path, preprocessor_config=config).card
    assert (card.resize, card.scale, card.mean, card.std) == ("none", 1.0, (0.0,), (1.0,))


def test_resizing_without_a_word_for_it_is_noted(tmp_path):
    resolved = from_files(tmp_path, preprocessor_config={"size": {"shortest_edge": 800, "longest_edge": 1333}})
    assert resolved.notes == ("preprocessor_config.json: its way of resizing has no word in a card; ignored",)
    assert resolved.sources["resize"].startswith("guess")


def test_labels_and_task_come_from_config_json(tmp_path):
    config = {"id2label": {"1": "dog", "0": "cat"}, "architectures": ["ViTForImageClassification"]}
    card = from_files(tmp_path, config=config).card
    assert (card.labels, card.task) == (("cat", "dog"), "classification")


@pytest.mark.parametrize("names", [{"0": "LABEL_0", "1": "LABEL_1"}, {"0": "cat", "2": "dog"}, [], 3, {}])
def test_labels_that_name_nothing_are_left_out(tmp_path, names):
    assert from_files(tmp_path, config={"id2label": names}).card.labels is None


def test_speech_preprocessors_are_passed_over(tmp_path):
    resolved = from_files(tmp_path, preprocessor_config={"sampling_rate": 16000}, config={"hidden_size": 3})
    assert not any(source.endswith(".json") for source in resolved.sources.values())


# ----- timm -----

TIMM = {"input_size": [3, 288, 288], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}


@pytest.mark.parametrize("nested", [True, False])
def test_timm_is_understood_nested_and_flat(tmp_path, nested):
    config = {"pretrained_cfg": TIMM | {"crop_pct": 0.95}} if nested else TIMM | {"crop_pct": 0.95}
    card = from_files(tmp_path, config=config).card
    assert (card.size, card.resize, card.resize_to, card.rounding) == ((288, 288), "shortest_edge", 303, None)
    assert (card.mean, card.std, card.scale, card.interpolation) == ((0.5,) * 3, (0.25,) * 3, 1 / 255, "bicubic")


def test_timm_crop_modes_are_understood(tmp_path):
    squash = from_files(tmp_path, config=TIMM | {"crop_mode": "squash", "crop_pct": 1.0}).card
    assert (squash.resize, squash.resize_to) == ("stretch", 288)
    assert from_files(tmp_path, config=TIMM | {"crop_mode": "border"}).card.resize == "letterbox"


def test_timm_labels_are_described_where_it_can(tmp_path):
    config = TIMM | {"label_names": ["n01", "n02"], "label_descriptions": {"n01": "tench"}}
    assert from_files(tmp_path, config=config).card.labels == ("tench", "n02")
