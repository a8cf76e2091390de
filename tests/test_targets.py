"""What a user can write for a target."""

import pytest

from onnxsal.errors import TargetError
from onnxsal.targets import TOP, Form, Target, check_range, parse_target

LABELS = ["tench, Tinca tinca", "tabby, tabby cat", "Egyptian cat", "t-shirt", "T-Shirt", "tiger cat"]


def only(text, labels=LABELS):
    (target,) = parse_target(text, labels, len(labels) if labels else None)
    return target


def test_nothing_is_the_top_class():
    assert only(None) == only("top") == Target()
    assert only("top").index == TOP


def test_top_three_are_three_ranks():
    assert [t.rank for t in parse_target("top:3", LABELS, 6)] == [1, 2, 3]


@pytest.mark.parametrize("text", [2, "2", "Egyptian cat", "egyptian CAT"])
def test_a_class_is_an_index_or_a_label(text):
    assert only(text).index == 2


def test_one_of_the_names_in_a_label_is_enough():
    assert only("tabby").index == only("tabby cat").index == 1


def test_an_exact_label_comes_before_one_that_differs_in_case():
    assert only("t-shirt").index == 3
    assert only("T-Shirt").index == 4


def test_a_label_that_fits_two_classes_lists_them():
    with pytest.raises(TargetError, match="fits 2 classes: 3 't-shirt', 4 'T-Shirt'; give the index"):
        only("T-SHIRT")


def test_an_unknown_label_lists_the_nearest():
    with pytest.raises(TargetError, match="no class is labelled 'tigercat'; the nearest are .*5 'tiger cat'"):
        only("tigercat")


def test_a_label_without_labels_says_so():
    with pytest.raises(TargetError, match="labels are not known: give an index, or a card with labels"):
        only("tabby", None)


def test_a_probability_is_a_form():
    assert only("prob:2") == Target(Form("probability"), 2, text="prob:2")
    assert only("prob:top").index == TOP


def test_a_contrast_has_two_classes():
    found = only("1-5")
    assert (found.form.kind, found.index, found.minus) == ("contrast", 1, 5)


def test_a_neuron_has_layer_channel_and_place():
    assert only("layer:a/b,c:0,channel=17,at=3,5") == Target(
        Form("neuron", "a/b,c:0", (3, 5)), 17, text="layer:a/b,c:0,channel=17,at=3,5"
    )
    assert only("layer:conv,channel=1").form.at is None


@pytest.mark.parametrize("text", ["6", "-1", "prob:9", "1-9", "top:7", "top:0"])
def test_a_class_beyond_the_last_is_refused(text):
    with pytest.raises(TargetError):
        only(text)


@pytest.mark.parametrize("text", ["layer:conv", "layer:conv,channel=x", "layer:,channel=1", "layer:c,channel=1,at=3"])
def test_a_neuron_that_cannot_be_read_shows_how_to_write_it(text):
    with pytest.raises(TargetError, match="layer:NAME,channel=17"):
        only(text)


def test_the_range_is_checked_once_the_classes_are_known():
    check_range(parse_target("5", None, None), 6)
    with pytest.raises(TargetError, match="no class 6; classes go from 0 to 5"):
        check_range(parse_target("6", None, None), 6)
