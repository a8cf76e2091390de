"""Each family's head, recognised and decoded: one box of one class, as the family writes it."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from support.families import BOX, HEADS, SCORE, Head, pp_yoloe, retinanet, yolox_raw
from support.heads import head

import onnxsal
from onnxsal.detectors.families import decoders

NAMES = [f"{i}-{h.decoder}" for i, h in enumerate(HEADS)]


def load(one: Head) -> onnxsal.Model:
    card = {"task": "detection", "size": list(one.size), "scale": 1 / 255, "mean": 0, "std": 1, "channels": "RGB"}
    return onnxsal.load(one.model, card=card | {"resize": "stretch", "labels": [f"c{i}" for i in range(one.classes)]})


def expected(one: Head) -> tuple[float, float, float, float]:
    if one.decoder == "tiny-yolov2":  # the middle of cell (3, 4), two by three cells large
        return (112 - 32, 144 - 48, 112 + 32, 144 + 48)
    if one.model.graph.output[0].name in ("Identity_0:0", "map_8"):  # the middle of cell (1, 1) of stride 16
        return (8, 8, 40, 40)
    return BOX


@pytest.mark.parametrize("one", HEADS, ids=NAMES)
def test_a_head_is_recognised_and_its_box_decoded(one):
    model = load(one)
    photo = np.full((*one.size, 3), 100, np.uint8)
    (found,) = model.detect(photo, inputs=one.inputs, threshold=0.3)
    assert_allclose(found.box, expected(one), atol=0.05)
    assert found.index == one.index
    assert found.score == pytest.approx(one.score, rel=1e-3)


@pytest.mark.parametrize("one", [h for h in HEADS if h.inputs], ids=lambda h: h.decoder)
def test_sizes_that_a_head_asks_for_are_those_of_the_models_input(one):
    photo = np.full((*one.size, 3), 100, np.uint8)
    (found,) = load(one).detect(photo)
    assert_allclose(found.box, BOX, atol=0.05)


@pytest.mark.parametrize("one", HEADS, ids=NAMES)
def test_the_head_that_is_named_is_the_surest(one):
    from onnxsal.methods.detector import find_candidates

    network = load(one).network
    best, *others = find_candidates(network, None)
    assert best.name == one.decoder
    assert best.evidence
    assert all(other.sure < best.sure for other in others)
    (named,) = find_candidates(network, one.decoder)
    assert named.name == one.decoder


@pytest.mark.parametrize("one", HEADS, ids=NAMES)
def test_a_box_is_explained_under_masks(one):
    quick = {"samples": 6, "cells": 4, "inputs": one.inputs}
    found = load(one).explain(np.full((*one.size, 3), 100, np.uint8), "d-rise", **quick)
    # The head says the same whatever it is shown, so that every mask finds the box again in full.
    assert found.detection.index == one.index
    assert np.isfinite(found.attribution).all()
    assert not found.heatmap.any() or np.ptp(found.attribution) < 1e-4


def test_the_first_class_of_a_head_without_a_background_is_one():
    """RetinaNet's and FCOS's classes are sigmoids, and none of them stands for nothing."""
    arrays = {"boxes": np.array([BOX], np.float32), "labels": np.array([0]), "scores": np.array([SCORE], np.float32)}
    (found,) = load(Head("boxes-scores-labels", head(arrays))).detect(np.full((64, 64, 3), 100, np.uint8))
    assert (found.index, found.score) == (0, pytest.approx(SCORE))


def test_a_softmax_over_distances_means_no_background():
    """mmyolo writes `num_dets`, `boxes`, `scores`, `labels`, of a batch."""
    boxes, scores, labels = np.array([[BOX]], np.float32), np.array([[SCORE]], np.float32), np.array([[0]], np.int32)
    outputs = {"num_dets": np.ones((1, 1), np.int32), "boxes": boxes, "scores": scores, "labels": labels}
    model = head(outputs)
    model.graph.node.insert(0, onnx.helper.make_node("Softmax", ["images"], ["distances"]))
    last = next(node for node in model.graph.node if "mean" in node.output)
    last.input[0] = "distances"
    (found,) = load(Head("boxes-scores-labels", model)).detect(np.full((64, 64, 3), 100, np.uint8))
    assert (found.index, found.score) == (0, pytest.approx(SCORE))


def test_a_class_beyond_cocos_is_found_without_labels():
    outputs = {"dets": np.array([[[*BOX, SCORE]]], np.float32), "labels": np.array([[1202]], np.int64)}
    card = {"task": "detection", "scale": 1 / 255}
    (found,) = onnxsal.load(head(outputs), card=card).detect(np.full((64, 64, 3), 100, np.uint8))
    assert (found.index, found.score) == (1202, pytest.approx(SCORE))


def test_maps_of_other_anchors_are_not_taken_for_retinanets():
    """EfficientDet's maps have the same shapes; a depthwise and a 1 x 1 convolution make them."""
    model = retinanet(live=False).model
    for info in model.graph.output:
        channels, name = info.type.tensor_type.shape.dim[1].dim_value, info.name
        last = next(node for node in model.graph.node if name in node.output)
        kernel = np.eye(channels, dtype=np.float32)[..., None, None]
        model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, f"{name}_w"))
        last.output[0] = f"{name}_before"
        made = onnx.helper.make_node("Conv", [f"{name}_before", f"{name}_w"], [name], kernel_shape=[1, 1])
        model.graph.node.append(made)
    assert not load(Head("retinanet", model)).inspect().detectors


def test_boxes_of_doubles_have_gradients():
    found = load(pp_yoloe()).explain(np.full((64, 64, 3), 100, np.uint8), "gradient", "box:0")
    assert found.detection.score == pytest.approx(SCORE)


def test_inspect_says_what_speaks_for_a_head():
    found = load(yolox_raw()).inspect().detectors
    assert found[0]["decoder"] == "yolox"
    assert "boxes are not decoded in the graph (no Exp)" in found[0]["evidence"]


def test_seven_classes_are_no_row_of_a_box():
    for shape in ((1, 7), (1, 7, 1, 1)):
        model = onnxsal.load(head({"output": np.arange(7, dtype=np.float32).reshape(shape)}), card={"scale": 1})
        assert not model.inspect().detectors
        assert model.explain(np.zeros((1, 3, 64, 64), np.float32), "occlusion", window=64).target.index == 6


def test_every_decoder_has_a_head_here():
    assert {one.decoder for one in HEADS} | {"rt-detr-rows"} == set(decoders())  # this is in test_ultralytics.py
