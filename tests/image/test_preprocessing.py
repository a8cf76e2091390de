"""Photo to model input: geometry, values, types, each as the card says."""

import numpy as np
import pytest
from PIL import Image

from onnxsal.errors import CardError, ImageError
from onnxsal.image import preprocess, to_picture
from onnxsal.model.card import Card

PLAIN = {"layout": "NHWC", "channels": "RGB", "resize": "stretch", "size": (8, 8)}


def photo(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def placed(height, width, **said):
    return preprocess(photo(height, width), Card(**(PLAIN | said))).placement


# ----- Geometry -----


def test_stretching_fills_the_input():
    placement = placed(10, 30, size=(8, 16))
    assert (placement.resized, placement.offset, placement.content) == ((8, 16), (0, 0), (0, 0, 16, 8))


def test_stretching_beyond_the_size_is_cut_at_the_centre():
    placement = placed(10, 30, size=(8, 16), resize_to=10)
    assert (placement.resized, placement.offset) == ((10, 20), (-1, -2))


# 700 x 577 to 256: the longer side is 310.57.
@pytest.mark.parametrize(
    ("rounding", "resized", "offset"),
    [
        (None, (256, 310), (-16, -43)),
        ("torchvision", (256, 310), (-16, -43)),
        ("transformers", (256, 310), (-16, -43)),
        ("nearest", (256, 311), (-16, -43)),
    ],
)
def test_the_shorter_edge_is_resized_and_the_centre_cut(rounding, resized, offset):
    placement = placed(577, 700, resize="shortest_edge", resize_to=256, size=(224, 224), rounding=rounding)
    assert (placement.resized, placement.offset) == (resized, offset)


# An odd surplus of 3: torchvision rounds 1.5 to 2, transformers to 1.
@pytest.mark.parametrize(("rounding", "offset"), [("torchvision", -2), ("transformers", -1), ("nearest", -1)])
def test_an_odd_surplus_is_halved_as_the_pipeline_does(rounding, offset):
    placement = placed(8, 11, resize="shortest_edge", resize_to=8, rounding=rounding)
    assert placement.offset == (0, offset)


def test_the_shorter_edge_without_resize_to_cuts_before_resizing():
    image = photo(48, 64)
    got = preprocess(image, Card(**PLAIN | {"resize": "shortest_edge", "size": (16, 16)}))
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR, box=(8, 0, 56, 48)))
    np.testing.assert_array_equal(got.x[0], expected)
    assert got.placement.seen == pytest.approx((8, 0, 56, 48))


def test_a_crop_larger_than_the_resized_photo_is_padded_all_round():
    placement = placed(10, 10, resize="shortest_edge", resize_to=4)
    assert placement.content == (2, 2, 6, 6)


# Ultralytics' own numbers: of an odd pixel of room, the lower and right side gets more.
@pytest.mark.parametrize(
    ("photo_size", "content"),
    [((480, 640), (0, 80, 640, 560)), ((427, 640), (0, 106, 640, 533)), ((1, 999), (0, 319, 640, 320))],
)
def test_the_letterbox_is_centred(photo_size, content):
    assert placed(*photo_size, resize="letterbox", size=(640, 640)).content == content


def test_the_corner_is_padded_right_and_below():
    assert placed(576, 768, resize="top_left_pad", size=(416, 416)).content == (0, 0, 416, 312)


@pytest.mark.parametrize(("photo_size", "width"), [((50, 430), 192), ((50, 100), 96), ((50, 101), 97)])
def test_lines_of_text_keep_their_height(photo_size, width):
    assert placed(*photo_size, resize="fit_height", size=(48, 192)).content == (0, 0, width, 48)


def test_a_photo_taken_as_it_is_must_fit_a_fixed_input():
    card = Card(**PLAIN | {"resize": "none", "size": None})
    assert preprocess(photo(5, 7), card).x.shape == (1, 5, 7, 3)
    assert preprocess(photo(5, 7), card, shape=("N", "H", 7, 3)).x.shape == (1, 5, 7, 3)
    for asked in ({"size": (8, 8)}, {"shape": (1, 8, 8, 3)}):
        with pytest.raises(ImageError, match=r"5 x 7 pixels .* takes 8 x 8 only, .* resize = 'stretch'"):
            preprocess(photo(5, 7), card, **asked)


def test_padding_has_the_cards_value_before_normalisation():
    x = preprocess(
        photo(4, 8), Card(**PLAIN | {"resize": "letterbox", "pad_value": 127.5, "scale": 1 / 127.5, "mean": 1})
    ).x
    np.testing.assert_array_equal(x[0, [0, 1, 6, 7]], np.zeros((4, 8, 3)))


def test_a_long_narrow_photo_costs_no_more_than_what_is_seen():
    x = preprocess(
        photo(2, 60_000), Card(**PLAIN | {"resize": "shortest_edge", "resize_to": 256, "size": (224, 224)})
    ).x
    assert x.shape == (1, 224, 224, 3)


@pytest.mark.parametrize("resize", ["stretch", "shortest_edge", "letterbox", "top_left_pad", "fit_height"])
@pytest.mark.parametrize("photo_size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_and_narrow_photos_pass(resize, photo_size):
    assert preprocess(photo(*photo_size), Card(**PLAIN | {"resize": resize})).x.shape == (1, 8, 8, 3)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolation_is_pillows(name):
    image = photo(20, 30)
    expected = np.asarray(image.resize((8, 8), Image.Resampling[name.upper()]))
    np.testing.assert_array_equal(preprocess(image, Card(**PLAIN, interpolation=name)).x[0], expected)


def test_resizing_a_part_agrees_with_cutting_the_whole(monkeypatch):
    image, card = photo(60, 100), Card(**PLAIN | {"resize": "shortest_edge", "resize_to": 40, "size": (32, 32)})
    whole = preprocess(image, card).x
    monkeypatch.setattr("onnxsal.image.preprocessing._LARGEST_RESIZED", 0)
    # Pillow rounds its weights apart by single bits.
    assert np.abs(preprocess(image, card).x.astype(int) - whole).max() <= 1


# ----- Values -----


def test_values_are_scaled_then_shifted_then_divided():
    image = Image.new("RGB", (8, 8), (255, 128, 0))
    x = preprocess(image, Card(**PLAIN, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))).x
    expected = (np.float32([1, np.float32(128) / 255, 0]) - np.float32([0.485, 0.456, 0.406])) / np.float32(
        [0.229, 0.224, 0.225]
    )
    np.testing.assert_array_equal(x[0, 0, 0], expected)
    assert x.dtype == np.float32


def test_channels_come_in_the_models_order():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    orders = {
        name: preprocess(image, Card(**PLAIN | {"channels": name})).x[0, 0, 0].tolist()
        for name in ("RGB", "BGR", "RGBA", "BGRA")
    }
    assert orders == {"RGB": [1, 2, 3], "BGR": [3, 2, 1], "RGBA": [1, 2, 3, 255], "BGRA": [3, 2, 1, 255]}


def test_mean_and_std_follow_the_models_order():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    x = preprocess(image, Card(**PLAIN | {"channels": "BGR"}, mean=(3, 2, 1))).x
    assert not x.any()


def test_grey_is_one_channel():
    x = preprocess(Image.new("RGB", (8, 8), (10, 10, 10)), Card(**PLAIN | {"channels": "GRAY"})).x
    assert x.shape == (1, 8, 8, 1)
    assert (x == 10).all()


def test_layouts_hold_the_same_values():
    nhwc = preprocess(photo(9, 9), Card(**PLAIN)).x
    nchw = preprocess(photo(9, 9), Card(**PLAIN | {"layout": "NCHW"})).x
    np.testing.assert_array_equal(nchw, nhwc.transpose(0, 3, 1, 2))
    assert nchw.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_the_type_is_the_models(dtype):
    assert preprocess(photo(8, 8), Card(**PLAIN), dtype=dtype).x.dtype == dtype


def test_signed_bytes_are_shifted():
    x = preprocess(Image.new("RGB", (8, 8), (0, 128, 255)), Card(**PLAIN, mean=128), dtype="int8").x
    assert x[0, 0, 0].tolist() == [-128, 0, 127]


def test_values_that_an_integer_input_cannot_hold_are_refused():
    with pytest.raises(CardError, match=r"give values from -128 to .*uint8 input cannot hold; .*scale = 1"):
        preprocess(Image.new("RGB", (8, 8)), Card(**PLAIN, mean=128), dtype="uint8")


def test_a_result_of_another_shape_than_the_models_is_refused():
    preprocess(photo(8, 8), Card(**PLAIN), shape=("N", 8, None, 3))
    with pytest.raises(CardError, match=r"gives? an input of shape \(1, 8, 8, 3\), and the model takes \(1, 3, 8, 8\)"):
        preprocess(photo(8, 8), Card(**PLAIN), shape=(1, 3, 8, 8))


@pytest.mark.parametrize("missing", ["layout", "channels", "resize", "size"])
def test_a_card_with_gaps_is_refused_by_field(missing):
    with pytest.raises(CardError, match=f"the card does not say {missing}"):
        preprocess(photo(8, 8), Card(**PLAIN | {missing: None}))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "RGBA", "BGRA"])
def test_a_model_input_can_be_looked_at(layout, channels):
    image = photo(8, 8)
    card = Card(**PLAIN | {"layout": layout, "channels": channels}, scale=1 / 255, mean=0.5, std=0.25)
    np.testing.assert_array_equal(np.asarray(to_picture(preprocess(image, card).x[0], card)), np.asarray(image))


def test_a_grey_model_input_can_be_looked_at():
    card = Card(**PLAIN | {"channels": "GRAY"})
    picture = to_picture(preprocess(Image.new("RGB", (8, 8), (7, 7, 7)), card).x[0], card)
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (7, 7, 7))
