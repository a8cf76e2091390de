"""Pictures: what is hot is coloured, what is not stays the photo."""

import numpy as np
import pytest
from PIL import Image

from onnxsal import render
from onnxsal.errors import ImageError, MethodError


def photo(height=40, width=60):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def spot(height=40, width=60):
    heatmap = np.zeros((height, width), np.float32)
    heatmap[10:20, 10:20] = 1
    return heatmap


# ----- Overlay -----


def test_cold_pixels_show_the_photo_unchanged():
    drawn, original = np.asarray(render.overlay(photo(), spot())), np.asarray(photo())
    np.testing.assert_array_equal(drawn[spot() == 0], original[spot() == 0])
    assert (drawn[spot() == 1] != original[spot() == 1]).mean() > 0.9


def test_a_map_of_nothing_leaves_the_photo():
    np.testing.assert_array_equal(render.overlay(photo(), np.zeros((40, 60))), photo())


def test_cover_grows_with_heat():
    grey = Image.new("RGB", (64, 1), (128, 128, 128))
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None]
    drawn = np.asarray(render.overlay(grey, ramp, colormap="gray", clip_percentile=100), float)
    white = np.asarray(
        render.overlay(Image.new("RGB", (64, 1), "white"), ramp, colormap="gray", clip_percentile=100), float
    )
    visible = (white - drawn)[0, :, 0]
    assert (np.diff(visible) <= 1).all()
    assert visible[-1] == pytest.approx(0.3 * 127, abs=1)


def test_negative_heat_is_blue_and_positive_red():
    heatmap = np.array([[-1.0, 0.0, 1.0]])
    cold, middle, hot = np.asarray(render.overlay(Image.new("RGB", (3, 1), (99, 99, 99)), heatmap, alpha=1))[0].astype(
        int
    )
    assert cold[2] > cold[0]
    assert hot[0] > hot[2]
    assert middle.tolist() == [99, 99, 99]


def test_alpha_of_nothing_is_the_photo():
    np.testing.assert_array_equal(render.overlay(photo(), spot(), alpha=0), photo())


def test_a_map_with_overflow_is_still_drawn():
    heatmap = spot()
    heatmap[0, 0], heatmap[0, 1] = np.nan, np.inf
    drawn = np.asarray(render.overlay(photo(), heatmap))
    np.testing.assert_array_equal(drawn[0, 0], np.asarray(photo())[0, 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2}, r"alpha = 2 is not in \[0, 1\]"),
        ({"clip_percentile": 0}, r"clip_percentile = 0 is not in \(0, 100\]"),
        ({"colormap": "viridis"}, "no colour map 'viridis'; there are turbo, inferno"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(MethodError, match=message):
        render.overlay(photo(), spot(), **settings)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ImageError, match=r"shape \(5, 5\) does not cover a photo of 40 x 60"):
        render.overlay(photo(), np.zeros((5, 5)))


# ----- Colours -----


# Read off the published tables at 0, 1/2 and 1; Turbo's polynomial strays furthest, at its ends.
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("turbo", [(48, 18, 59), (164, 252, 60), (122, 4, 3)]),
        ("inferno", [(0, 0, 4), (188, 55, 84), (252, 255, 164)]),
        ("jet", [(0, 0, 128), (128, 255, 128), (128, 0, 0)]),
        ("gray", [(0, 0, 0), (128, 128, 128), (255, 255, 255)]),
    ],
)
def test_colour_maps_are_the_known_ones(name, ends):
    got = 255 * render.colour(np.array([0.0, 0.5, 1.0]), name)
    np.testing.assert_allclose(got, ends, atol=33)


@pytest.mark.parametrize("name", render.COLORMAPS)
def test_colour_maps_have_no_jumps_and_stay_in_range(name):
    low = -1 if name == "diverging" else 0
    colours = render.colour(np.linspace(low, 1, 256), name)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert np.abs(np.diff(colours, axis=0)).max() < 0.05


# ----- Attributions -----


def test_no_attribution_is_mid_grey():
    picture = np.asarray(render.attribution_image(np.zeros((3, 4, 5))))
    assert picture.shape == (4, 5, 3)
    assert set(picture.ravel().tolist()) <= {127, 128}


def test_attributions_keep_sign_and_channel():
    attribution = np.zeros((3, 1, 2))
    attribution[0, 0] = [1, -1]
    assert np.asarray(render.attribution_image(attribution))[0, :, 0].tolist() == [255, 0]
    assert np.asarray(render.attribution_image(attribution, channels="BGR"))[0, :, 2].tolist() == [255, 0]
    last = attribution.transpose(1, 2, 0)
    assert render.png_bytes(render.attribution_image(last, layout="NHWC")) == render.png_bytes(
        render.attribution_image(attribution)
    )


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5)])
def test_attributions_of_one_channel_are_grey(shape, rng):
    picture = np.asarray(render.attribution_image(rng.normal(size=shape)))
    assert (picture[..., 0] == picture[..., 2]).all()


# ----- Panels -----


def test_tiny_photos_are_enlarged_and_large_ones_shrunk():
    tiny = render.panel(photo(28, 28), [("a", np.zeros((28, 28)))])
    assert tiny.width >= 2 * 224
    large = render.panel(photo(1500, 3000), [("a", np.zeros((1500, 3000)))])
    assert large.width < 1000


def test_many_maps_wrap_to_rows():
    one_row = render.panel(photo(), [("m", spot())] * 3)
    two_rows = render.panel(photo(), [("m", spot())] * 7)
    assert two_rows.width == one_row.width
    assert two_rows.height > 1.8 * one_row.height


def test_a_panel_shows_the_photo_first():
    white = Image.new("RGB", (224, 224), "white")
    picture = np.asarray(render.panel(white, [("a", np.ones((224, 224)))]))
    assert (picture[26 + 8 : 250, 8:232] == 255).all()
    assert not (picture[26 + 8 : 250, 240:464] == 255).all()


@pytest.mark.parametrize("title", ["", "x" * 5000, "[red]\x1b[31m\n<b>", "\u732b \u202e", "caf\u00e9"])
def test_any_title_is_drawn_within_its_tile(title):
    width = render.panel(photo(), []).width
    assert render.panel(photo(), [], title=title).width == width


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1)])
def test_narrow_photos_have_panels(size):
    assert render.panel(photo(*size), [("a", np.ones(size))]).width < 1000


def test_the_same_picture_gives_the_same_bytes():
    first, second = (render.png_bytes(render.panel(photo(), [("a", spot()), ("b", -spot())])) for _ in range(2))
    assert first == second
    tagged = photo()
    tagged.info["comment"] = "now"
    assert render.png_bytes(tagged) == render.png_bytes(photo())


# ----- Boxes -----


def test_boxes_are_drawn_and_the_photo_is_left_alone():
    original = Image.new("RGB", (100, 80), "white")
    drawn = np.asarray(render.draw_boxes(original, [(10, 20, 50, 60)]))
    assert (drawn[20, 10:50] != 255).any(axis=1).all()
    assert (drawn[59, 10:50] != 255).any(axis=1).all()
    assert (drawn[25:55, 15:45] == 255).all()
    assert (drawn[:20] == 255).all()
    assert np.asarray(original).min() == 255


@pytest.mark.parametrize("box", [(-50, -50, 500, 500), (30, 30, 30, 30), (90, 70, 20, 10), (1e9, 1e9, 2e9, 2e9)])
def test_boxes_beyond_the_photo_are_cut(box):
    assert render.draw_boxes(Image.new("RGB", (100, 80)), [box], ["label [b]"]).size == (100, 80)


def test_a_panel_draws_a_detection_on_every_tile():
    from onnxsal.render import panel

    photo = Image.new("RGB", (448, 224))
    heat = np.zeros((224, 448), np.float32)
    plain = np.asarray(panel(photo, [("d-rise", heat)]), int)
    drawn = np.asarray(panel(photo, [("d-rise", heat)], detection=((100, 50, 200, 150), "dog 0.83")), int)
    changed = np.abs(drawn - plain).sum(axis=2) > 0
    left, right = np.split(changed[:, 8:], 2, axis=1)
    for tile in (left, right):
        rows, columns = np.nonzero(tile)
        assert abs(columns.min() - 100) <= 12
        assert abs(rows.max() - (26 + 8 + 150)) <= 6
