"""Photos of every kind become upright 8-bit RGB; what is no photo becomes one clear line."""

import contextlib
import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from onnxsal.errors import ImageError
from onnxsal.image import open_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def pixels(source):
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_path_is_opened_as_text_or_path(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (4, 3), RED), "a.png")
    assert pixels(path).shape == (3, 4, 3)
    assert (pixels(str(path)) == pixels(path)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]
    image = Image.fromarray(upright)
    stored = image if undo is None else image.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(saved(tmp_path, stored, "a.png", exif=exif)), upright)


def test_a_pillow_image_with_orientation_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.new("RGB", (8, 4)), "a.png", exif=exif)
    with Image.open(path) as image:
        assert open_image(image).size == (4, 8)


def test_transparency_shows_white(tmp_path):
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    clear.putpixel((1, 0), (0, 0, 0, 51))
    expected = [[RED, (204, 204, 204)], [(255,) * 3, (255,) * 3]]
    assert pixels(saved(tmp_path, clear, "a.png")).tolist() == [[list(p) for p in row] for row in expected]


def test_a_transparent_palette_colour_shows_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels(saved(tmp_path, image, "a.png", transparency=1)).tolist() == [[list(RED), [255, 255, 255]]]


def test_grey_with_alpha_shows_white(tmp_path):
    assert pixels(saved(tmp_path, Image.new("LA", (1, 1), (0, 0)), "a.png")).tolist() == [[[255] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB"])
def test_every_mode_of_black_is_black(tmp_path, mode):
    black = Image.new("RGB", (8, 8), "black").convert(mode)
    assert pixels(saved(tmp_path, black, "a.tif")).max() <= 1


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert pixels(saved(tmp_path, Image.fromarray(ramp), "a.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_wide_integers_within_eight_bits_stay():
    assert pixels(Image.fromarray(np.array([[0, 200]], np.int32)))[0, :, 0].tolist() == [0, 200]


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match="floating-point pixels"):
        open_image(Image.new("F", (2, 2)))


def test_the_first_frame_is_taken(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("RGB", (4, 4), RED).save(path, save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)])
    assert pixels(path)[0, 0].tolist() == list(RED)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_arrays_are_photos_too(shape, rng):
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    if shape[-1] == 4:
        array[..., 3] = 255
    got = pixels(array)
    expected = array[..., :3] if array.ndim == 3 else array[..., None]
    np.testing.assert_array_equal(got, np.broadcast_to(expected, (4, 6, 3)))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_arrays_of_another_kind_are_refused_saying_which(array):
    with pytest.raises(ImageError, match=r"uint8 of shape \(H, W\).*not (float32|uint8) of shape \("):
        open_image(array)


def test_another_type_is_refused_by_name():
    with pytest.raises(ImageError, match="not int"):
        open_image(3)


def test_the_callers_image_is_left_alone():
    image = Image.new("RGB", (2, 2), RED)
    open_image(image).putpixel((0, 0), BLUE)
    assert image.getpixel((0, 0)) == RED


# ----- What is no photo -----


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"absent.jpg: no such image file"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="is a folder, not an image"):
        open_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg: (not an image|cannot be)"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_truncated_images_are_refused_by_name(tmp_path, rng, name, kept):
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(tmp_path, noise, name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ImageError, match=rf"{name}: .*"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp"])
def test_damaged_images_are_read_or_refused_and_nothing_else(tmp_path, rng, name):
    data = saved(tmp_path, Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)), name).read_bytes()
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 4):
            damaged[position] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        with contextlib.suppress(ImageError):
            open_image(tmp_path / name)


def png_header(width, height):
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


# Pillow only warns of the first and refuses the second.
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(ImageError, match=r"bomb.png: more than \d+ pixels, which may be a decompression bomb; shrink"):
        open_image(tmp_path / "bomb.png")


def test_pillow_is_left_as_it_was(tmp_path):
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    (tmp_path / "bomb.png").write_bytes(png_header(10_000, 10_000))
    with pytest.raises(ImageError):
        open_image(tmp_path / "bomb.png")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (limit, filters)


def test_control_characters_in_a_name_stay_out_of_the_message(tmp_path):
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "a\x1b[31m\nb.png")
    assert str(caught.value).isprintable()
