"""What is asked for: targets and settings that are read, and those that are refused with a way out."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from support import papers
from support.explainable import fill, random_input, replaced

import onnxsal
from onnxsal.errors import LayerError, MethodError, TargetError
from onnxsal.methods import find_method, make_method, methods

LABELS = ["tabby, tabby cat", "crane", "crane", "hot-dog"]


@pytest.fixture(scope="module")
def model():
    return onnxsal.load(fill(papers.TEXT), card={"scale": 1, "mean": 0, "std": 1, "labels": LABELS})


@pytest.fixture(scope="module")
def x():
    return random_input("small", 1)


@pytest.mark.parametrize(
    ("text", "index"), [(2, 2), ("2", 2), (" 2 ", 2), ("hot-dog", 3), ("HOT-DOG", 3), ("Tabby", 0), ("prob:hot-dog", 3)]
)
def test_a_class_is_named_by_index_or_label(model, x, text, index):
    assert model.explain(x, "gradient", text).target.index == index


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hotdog", "no class is labelled 'hotdog'; the nearest are 3 'hot-dog'"),
        ("zzzz", "classes go from 0 'tabby, tabby cat' to 3 'hot-dog'"),
        ("crane", "label 'crane' fits 2 classes: 1 'crane', 2 'crane'; give the index"),
        ("4", "no class 4; classes go from 0 to 3"),
        ("-2", "no class -2"),
        ("0-4", "no class 4"),
        ("prob:4", "no class 4"),
        ("top:5", "more classes than the model has: 4"),
        ("top:0", "top:0 asks for 0 classes"),
        (True, "neither a class index nor a label"),
        ("layer:a1", "write layer:NAME,channel=17 or layer:NAME,channel=17,at=ROW,COLUMN"),
        ("layer:a1,channel=5", "layer 'a1' has no channel 5; they go from 0 to 4"),
        ("layer:a1,channel=1,at=12,0", "outside layer 'a1', which has 12 rows and 12 columns"),
        ("layer:flat,channel=1,at=0,0", "'flat' has no rows and columns"),
    ],
)
def test_a_target_that_is_not_there_is_refused_with_a_way_out(model, x, text, says):
    with pytest.raises(TargetError) as caught:
        model.explain(x, "gradient", text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_without_labels_asks_for_an_index_or_a_card(x):
    with pytest.raises(TargetError, match="give an index, or a card with labels"):
        onnxsal.load(fill(papers.TEXT), card={"scale": 1}).explain(x, "gradient", "tabby")


@pytest.mark.parametrize(
    ("method", "target", "layer", "says"),
    [
        ("grad-cam", "top", "a11", "no value or node 'a11'; the nearest are 'a1'"),
        ("grad-cam", "top", "zzzz", "`onnxsal inspect` lists its layers"),
        ("grad-cam", "top", "flat", "layers that do are, last first: 'a2', 'c2', 'p1'"),
        ("grad-cam", "layer:a1,channel=2", None, "choose one that lies before the target"),
        ("gradient", "layer:a11,channel=2", None, "the nearest are 'a1'"),
        ("gradient", "layer:w1,channel=2", None, "does not depend on 'image': choose a target that lies behind it"),
    ],
)
def test_a_layer_that_does_not_serve_is_refused_with_a_way_out(model, x, method, target, layer, says):
    with pytest.raises(LayerError) as caught:
        model.explain(x, method, target, layer)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("gradcam", {}, "did you mean 'grad-cam'? there are " + ", ".join(methods())),
        ("Guided_Backprop", {}, "did you mean 'guided-backprop'?"),
        ("zzzz", {}, "no method 'zzzz'; there are " + ", ".join(methods())),
        ("grad-cam", {"rleu": True}, "no setting 'rleu'; its settings are: layer, relu"),
        ("deconvnet", {"relu": True}, "deconvnet has no setting 'relu'; its settings are: none"),
        ("grad-cam", {"relu": "maybe"}, "relu='maybe' is not true or false"),
        ("grad-cam", {"relu": 2}, "relu=2 is not true or false"),
        ("grad-x-input", {"rule": "guide"}, "rule='guide' is not gradient or guided"),
        ("gradient", {"layer": "a1"}, "gradient takes no layer; those that do: grad-cam, guided-grad-cam"),
    ],
)
def test_methods_and_settings_that_are_not_there_are_refused_with_a_way_out(model, x, method, settings, says):
    with pytest.raises(MethodError) as caught:
        model.explain(x, method, **settings)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["no", "False", "0", False])
def test_settings_are_read_from_text(model, x, text):
    found = model.explain(x, "grad-cam", 0, relu=text)
    assert found.settings["relu"] is False
    assert_array_equal(found.attribution, model.explain(x, "grad-cam", 0, relu=False).attribution)


@pytest.mark.parametrize("name", methods())
def test_a_method_is_a_value_with_a_summary_and_a_paper(name):
    info = find_method(name)
    assert make_method(name, {}) == make_method(name, {})
    assert hash(make_method(name, {})) == hash(make_method(name, {}))
    assert info.summary.endswith(".")
    assert "arXiv:" in info.source


def test_the_top_class_is_the_one_predicted_also_where_a_sigmoid_gives_one_to_several(x):
    source = fill(
        replaced(("[N,4] logits)", "[N,4] p)"), ("flat, w3, b3)\n", "flat, w3, b3)\n  p = Sigmoid(logits)\n"))
    )
    bias = next(t for t in source.graph.initializer if t.name == "b3")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([-3, 40, 20, 60], np.float32), "b3"))
    model = onnxsal.load(source, card={"scale": 1, "mean": 0, "std": 1})
    best, *others = model.predict(x, top=3)
    assert (best.index, best.score, others[1].score) == (1, 1, 1)
    found = model.explain(x, "gradient")
    assert found.target.index == 1
    assert_array_equal(found.attribution, model.explain(x, "gradient", 1).attribution)
