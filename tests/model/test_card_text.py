"""Names from strangers' files, made harmless."""

import re

from hypothesis import given
from hypothesis import strategies as st

from onnxsal.model.card import plain, slug


@given(st.text())
def test_plain_text_is_one_printable_line(text):
    assert plain(text).isprintable()


@given(st.text())
def test_a_slug_never_leaves_its_folder(text):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", slug(text))


def test_markup_stays_text():
    assert plain("[red]cat[/red] <b>") == "[red]cat[/red] <b>"


def test_long_text_is_cut_with_dots():
    assert plain("abcdefgh", 5) == "ab..."


def test_slugs_are_readable():
    assert slug("tench, Tinca tinca") == "tench-Tinca-tinca"
    assert slug("caf\u00e9") == "cafe"
    assert slug("../../etc/passwd") == "etc-passwd"


def test_names_without_ascii_stay_different():
    assert slug("\u732b") != slug("\u72ac")
    assert slug("..").startswith("x-")
    assert slug("").startswith("x-")


def test_device_names_of_windows_are_avoided():
    assert slug("CON") == "_CON"
    assert slug("lpt1") == "_lpt1"
