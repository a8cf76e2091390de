"""Detections are targets of every method, and how they are found is said to each in the same words."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from support.detector import CARD, detector, squares

import onnxsal
from onnxsal.errors import DetectorError, MethodError, OutputError, TargetError

PHOTO = squares((0, 8, 8), (2, 40, 32))


@pytest.fixture(scope="module")
def model():
    return onnxsal.load(detector(), card=CARD)


@pytest.mark.parametrize("method", ["gradient", "grad-cam", "odam", "smoothgrad", "d-rise", "rise", "occlusion"])
def test_every_method_takes_the_decoder_by_name(model, method):
    few = {"samples": 4} if method in ("smoothgrad", "d-rise", "rise") else {}
    named = model.explain(PHOTO, method, "box:0", decoder="yolox", **few)
    found = model.explain(PHOTO, method, "box:0", **few)
    assert_allclose(named.attribution, found.attribution)
    assert named.detection == found.detection
    with pytest.raises(DetectorError, match="no decoder 'yolo99'"):
        model.explain(PHOTO, method, "box:0", decoder="yolo99", **few)
    with pytest.raises(DetectorError, match="decoder 'ultraface' finds nothing to decode"):
        model.explain(PHOTO, method, "box:0", decoder="ultraface", **few)


def test_thresholds_are_those_of_detect(model):
    sure = model.detect(PHOTO, threshold=0.95, overlap=0.2)
    maps = model.explain(PHOTO, "grad-cam", "all", threshold=0.95, overlap=0.2)
    assert [e.detection for e in maps] == sure
    with pytest.raises(TargetError, match="nothing is detected with a score of 1.5 or more"):
        model.explain(PHOTO, "gradient", threshold=1.5)
    with pytest.raises(MethodError, match="threshold=-1.0 is below 0"):
        model.explain(PHOTO, "gradient", threshold=-1)


def test_rise_of_a_detection_is_drise_of_it(model):
    same = {"samples": 20, "cells": 6, "seed": 3}
    one, other = (model.explain(PHOTO, name, "box:1", **same) for name in ("rise", "d-rise"))
    assert_allclose(one.attribution, other.attribution)


def test_occlusion_of_a_detection_is_how_much_worse_it_is_found(model):
    found = model.explain(PHOTO, "occlusion", "red", window=16, stride=16)
    found = found[0] if isinstance(found, list) else found
    x1, y1, x2, y2 = (round(side) for side in found.detection.box)
    assert found.attribution[y1:y2, x1:x2].max() > 0.5
    assert abs(found.attribution[48:, :16]).max() < 1e-6


def test_a_checkpoint_of_one_box_is_not_gone_on_from_for_another_of_the_same_number_and_class(model, tmp_path):
    few = {"method": "rise", "target": "box:1", "loop": onnxsal.LoopOptions(checkpoint=tmp_path / "run.npz")}
    one, other = (model.detect(PHOTO, overlap=o)[1] for o in (0.5, 0.2))
    assert one.label == other.label
    assert one.box != other.box
    model.explain(PHOTO, samples=4, overlap=0.5, **few)
    with pytest.raises(OutputError, match="belongs to another explanation"):
        model.explain(PHOTO, samples=4, overlap=0.2, **few)


def test_smoothgrad_without_noise_is_the_gradient_of_the_detection(model):
    plain = model.explain(PHOTO, "gradient", "box:1")
    smooth = model.explain(PHOTO, "smoothgrad", "box:1", samples=2, noise=0)
    assert_allclose(smooth.attribution, plain.attribution, rtol=1e-5)
    side = model.explain(PHOTO, "smoothgrad", "box:1,x1", samples=2, noise=0)
    assert side.target.text == "box:1,x1"


def test_masks_say_nothing_of_the_place_of_a_side(model):
    with pytest.raises(TargetError, match="rise explains that a box is found, not where its side x1 is"):
        model.explain(PHOTO, "rise", "box:0,x1", samples=4)


def test_what_a_card_once_said_is_not_remembered_for_another(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path))
    mistaken = onnxsal.load(detector(), card=CARD | {"task": "classification"})
    with pytest.raises(TargetError):
        mistaken.explain(PHOTO, "grad-cam")
    few = onnxsal.load(detector(), card={k: v for k, v in CARD.items() if k not in ("task", "labels")})
    assert few.explain(PHOTO, "grad-cam").detection.label.startswith("class ")
    assert onnxsal.load(detector(), card=CARD).explain(PHOTO, "grad-cam").detection is not None


def test_settings_of_detections_are_refused_where_classes_are_explained():
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,8,8] x) => (float[1,3] y) {
      pooled = GlobalAveragePool(x)
      y = Flatten(pooled)
    }"""
    classifier = onnxsal.load(onnx.parser.parse_model(text))
    photo = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(MethodError, match="decoder, threshold: a setting of detections, and 'top' means none"):
        classifier.explain(photo, "rise", decoder=None, threshold=0.5)


def test_scores_of_boxes_are_no_classes():
    from support.heads import head

    boxes, scores, labels = (np.zeros(s, np.float32) for s in ((1, 10, 4), (1, 10), (1, 10)))
    boxes[0, 0], scores[0, 0] = [0.1, 0.1, 0.6, 0.6], 0.9
    outputs = {"detection_boxes": boxes, "detection_scores": scores, "detection_classes": labels + 1}
    found = onnxsal.load(head(outputs), card=CARD)
    assert found.means_boxes(found.read_target("top"))
    with pytest.raises(TargetError, match=r"it is a detector \(tensorflow\): use detect"):
        found.predict(PHOTO)


def test_a_photo_without_an_axis_of_samples_is_given_one():
    proto = detector()
    graph = proto.graph
    alone = onnx.helper.make_tensor_value_info("photo", onnx.TensorProto.FLOAT, [3, 64, 64])
    one = onnx.numpy_helper.from_array(np.array([0]), "first")
    graph.node.insert(0, onnx.helper.make_node("Unsqueeze", ["photo", "first"], ["images"]))
    graph.initializer.append(one)
    del graph.input[:]
    graph.input.append(alone)
    onnx.checker.check_model(proto, full_check=True)
    found, with_axis = onnxsal.load(proto, card=CARD), onnxsal.load(detector(), card=CARD)
    assert found.card.image.name == "photo"
    assert found.detect(PHOTO) == with_axis.detect(PHOTO)
    for method in ("gradient", "d-rise"):
        few = {"samples": 6} if method == "d-rise" else {}
        one, other = (m.explain(PHOTO, method, "box:0", **few) for m in (found, with_axis))
        assert_allclose(one.attribution, other.attribution, atol=1e-6)
