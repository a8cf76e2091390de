"""Maps and boxes find their way back to the photo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from onnxsal.image import Placement, preprocess
from onnxsal.model.card import Card

GREY = {"layout": "NHWC", "channels": "GRAY", "interpolation": "bilinear"}
SIDES = st.integers(20, 90)
RESIZES = st.sampled_from(
    [
        ("stretch", None),
        ("stretch", 40),
        ("shortest_edge", None),
        ("shortest_edge", 40),
        ("letterbox", None),
        ("top_left_pad", None),
        ("fit_height", None),
    ]
)


def slope(height, width):
    """A photo whose brightness rises to the right and downwards, without kinks."""
    y, x = np.mgrid[:height, :width]
    return np.rint(40 + 90 * x / width + 90 * y / height).astype(np.uint8)


def placement_of(photo, resize, resize_to, size=(32, 36)):
    card = Card(**GREY, resize=resize, resize_to=resize_to, size=size)
    return preprocess(Image.fromarray(photo).convert("RGB"), card)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, RESIZES)
def test_a_photo_to_the_model_and_back_is_the_photo_wherever_it_was_seen(height, width, how):
    photo = slope(height, width)
    got = placement_of(photo, *how)
    back = got.placement.to_photo(got.x[0, :, :, 0])
    seen, unseen = within(got.placement, -1e-6), ~within(got.placement, 1e-6)
    # Linear interpolation of a slope is exact but at the border, where the outermost pixel is held, and for rounding.
    border = 1 + max(height, width) / 20
    assert_allclose(back[seen], photo[seen], atol=2 + 90 * border / min(height, width))
    inner = within(got.placement, -border)
    assert_allclose(back[inner], photo[inner], atol=2)
    assert not back[unseen].any()


def within(placement, margin):
    """Which pixels of the photo have their centre in what the model sees, made larger by a margin."""
    x1, y1, x2, y2 = placement.seen
    y, x = (np.arange(side) + 0.5 for side in placement.photo)
    rows, columns = (y > y1 - margin) & (y < y2 + margin), (x > x1 - margin) & (x < x2 + margin)
    return np.outer(rows, columns)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, RESIZES, st.tuples(*[st.floats(0, 1)] * 4))
def test_boxes_to_the_model_and_back_are_the_same_boxes(height, width, how, corners):
    placement = placement_of(slope(height, width), *how).placement
    x1, y1, x2, y2 = placement.seen
    box = (
        x1 + min(corners[0], corners[2]) * (x2 - x1),
        y1 + min(corners[1], corners[3]) * (y2 - y1),
        x1 + max(corners[0], corners[2]) * (x2 - x1),
        y1 + max(corners[1], corners[3]) * (y2 - y1),
    )
    assert_allclose(placement.box_to_photo(placement.box_to_input(box)), box, atol=1e-6 * max(height, width))


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, RESIZES)
def test_padding_never_leaks_into_the_photo(height, width, how):
    placement = placement_of(slope(height, width), *how).placement
    x1, y1, x2, y2 = placement.content
    heatmap = np.full(placement.size, 1000.0)
    heatmap[y1:y2, x1:x2] = 1
    assert placement.to_photo(heatmap).max() <= 1.0001


def test_a_spot_lands_where_it_was():
    photo = np.zeros((60, 100), np.uint8)
    photo[40:44, 70:74] = 255
    for how in [("stretch", None), ("letterbox", None), ("top_left_pad", None), ("shortest_edge", None)]:
        got = placement_of(photo, *how, size=(50, 50))
        back = got.placement.to_photo(got.x[0, :, :, 0])
        y, x = (back * np.mgrid[:60, :100]).sum(axis=(1, 2)) / back.sum()
        assert_allclose((y, x), (41.5, 71.5), atol=0.5)


def test_a_coarse_map_covers_the_whole_input():
    placement = Placement((40, 80), (32, 32), (16, 32), (8, 0))
    assert placement.content == (0, 8, 32, 24)
    coarse = np.zeros((4, 4))
    coarse[1:3] = 1
    assert_allclose(placement.to_photo(coarse), np.ones((40, 80)), atol=1e-6)


def test_a_small_photo_gets_averages_not_samples():
    placement = Placement((4, 4), (64, 64), (64, 64), (0, 0))
    heatmap = np.zeros((64, 64))
    heatmap[::2] = 1
    assert_allclose(placement.to_photo(heatmap), np.full((4, 4), 0.5), atol=0.02)


def test_stacks_are_mapped_one_by_one(rng):
    placement = Placement((30, 20), (16, 16), (24, 16), (-4, 0))
    stack = rng.random((3, 16, 16))
    assert_allclose(placement.to_photo(stack)[1], placement.to_photo(stack[1]), rtol=1e-6)
    assert placement.to_photo(stack).dtype == np.float32


def test_the_identity_changes_nothing(rng):
    placement = Placement.identity(7, 9)
    heatmap = rng.random((7, 9)).astype(np.float32)
    np.testing.assert_array_equal(placement.to_photo(heatmap), heatmap)
    assert placement.box_to_photo((1, 2, 3, 4)) == (1, 2, 3, 4)
    assert placement.seen == placement.content == (0, 0, 9, 7)


def test_boxes_are_cut_at_the_border():
    placement = Placement((10, 10), (20, 20), (20, 20), (0, 0))
    assert placement.box_to_photo((-5, -5, 50, 50)) == (0, 0, 10, 10)
    assert placement.box_to_input((-5, -5, 50, 50)) == (0, 0, 20, 20)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1)])
def test_narrow_photos_get_maps_of_their_size(shape):
    placement = placement_of(np.zeros(shape, np.uint8), "letterbox", None).placement
    assert placement.to_photo(np.ones(placement.size)).shape == shape


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, RESIZES)
def test_a_mask_of_the_photo_lies_in_the_model_where_the_photo_does(height, width, how):
    placement = placement_of(np.full((height, width), 9, np.uint8), *how).placement
    whole = placement.to_input(np.ones((height, width)))
    x1, y1, x2, y2 = placement.content
    assert_allclose(whole[y1:y2, x1:x2], 1, atol=1e-6)
    assert whole.sum() == pytest.approx((y2 - y1) * (x2 - x1), rel=1e-5)
    # A slope is read at the same places as `to_photo` writes to.
    there = placement.to_input(np.add.outer(np.arange(height) + 0.5, np.zeros(width)))
    rows = (np.arange(y1, y2) + 0.5 - placement.offset[0]) * height / placement.resized[0]
    inner = (rows > 2) & (rows < height - 2)
    step = height / placement.resized[0]
    assert_allclose(there[y1:y2, (x1 + x2) // 2][inner], rows[inner], atol=0.02 + 0.5 * max(step - 1, 0))
