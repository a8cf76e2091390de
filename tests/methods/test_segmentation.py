"""Targets of segmentations: one class, summed over the pixels of a mask, of a region, or of those predicted as it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose

import onnxsal
from onnxsal.errors import OutputError, TargetError

SIZE, CLASSES = 12, 3
FIRST = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
LAST = np.random.default_rng(53).normal(size=(CLASSES, 4, 1, 1)).astype(np.float32)
CARD = {"task": "segmentation", "scale": 1 / 255, "mean": 0, "std": 1, "channels": "RGB", "resize": "stretch"}
LABELS = ["ground", "sky", "person"]
PHOTO = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def model(end: str = "y = Conv(hidden, last)", *, channels_last: bool = False) -> onnxsal.Model:
    """Return a segmentation (1, 3, 12, 12) whose pixels see themselves alone: linear, rectified, linear."""
    shape = f"1,{SIZE},{SIZE},{CLASSES}" if channels_last else f"1,{CLASSES},{SIZE},{SIZE}"
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,{SIZE},{SIZE}] x) => (float[{shape}] y) {{
      wide = Conv(x, first)
      hidden = Relu(wide)
      {end}
    }}"""
    proto = onnx.parser.parse_model(text)
    weights = {"first": FIRST, "last": LAST}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    onnx.checker.check_model(proto, full_check=True)
    return onnxsal.load(proto, card=CARD | {"labels": LABELS, "size": [SIZE, SIZE]})


def forward(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden layer (4, 12, 12) and the logits (3, 12, 12)."""
    x = photo.transpose(2, 0, 1) / 255
    hidden = np.maximum(np.einsum("oc,chw->ohw", FIRST[..., 0, 0], x), 0)
    return hidden, np.einsum("kc,chw->khw", LAST[..., 0, 0], hidden)


def gradient(index: int, mask: np.ndarray) -> np.ndarray:
    """Return the gradient of a class's logits, summed over a mask, (3, 12, 12)."""
    hidden, _ = forward(PHOTO)
    return np.einsum("oc,ohw->chw", FIRST[..., 0, 0], LAST[index, :, 0, 0][:, None, None] * (hidden > 0)) * mask


def box_mask(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE))
    mask[y1:y2, x1:x2] = 1
    return mask


PREDICTED = forward(PHOTO)[1].argmax(axis=0)


def test_a_class_is_summed_where_it_is_predicted():
    mask = PREDICTED == 2
    found = model().explain(PHOTO, "gradient", "class:2")
    assert_allclose(found.attribution, gradient(2, mask), atol=1e-6)
    assert found.score == pytest.approx(forward(PHOTO)[1][2][mask].sum(), rel=1e-5)
    assert found.target.label == "person"
    assert str(found.target) == "2 person where it is predicted"
    assert_allclose(model().explain(PHOTO, "gradient", "class:person").attribution, found.attribution)


def test_a_region_is_in_pixels_of_the_photo():
    found = model().explain(PHOTO, "gradient", "class:1@2,3,7,9")
    assert_allclose(found.attribution, gradient(1, box_mask(2, 3, 7, 9)), atol=1e-6)
    boxed = model().explain(PHOTO, "gradient", 1, mask=(2, 3, 7, 9))
    assert_allclose(boxed.attribution, found.attribution)
    # Twice as large a photo has the same region at twice the coordinates.
    large = model().explain(np.kron(PHOTO, np.ones((2, 2, 1), np.uint8)), "gradient", "class:1@4,6,14,18")
    assert not large.attribution[:, box_mask(2, 3, 7, 9) == 0].any()
    assert large.attribution[:, 3:9, 2:7].any(axis=0).mean() > 0.9


def test_a_mask_is_an_array_of_weights():
    mask = np.random.default_rng(3).uniform(size=(SIZE, SIZE))
    found = model().explain(PHOTO, "gradient", "person", mask=mask)
    assert_allclose(found.attribution, gradient(2, mask), atol=1e-6)
    assert found.score == pytest.approx((forward(PHOTO)[1][2] * mask).sum(), rel=1e-5)


def test_all_pixels_count_for_a_plain_class():
    for target in ("2", "class:2@all"):
        found = model().explain(PHOTO, "gradient", target)
        assert_allclose(found.attribution, gradient(2, np.ones((SIZE, SIZE))), atol=1e-6)


def test_grad_cam_weights_channels_by_the_regions_mean_gradient():
    mask = box_mask(2, 3, 7, 9)
    hidden, _ = forward(PHOTO)
    weights = (LAST[1, :, 0, 0][:, None, None] * mask).mean(axis=(1, 2))
    found = model().explain(PHOTO, "grad-cam", "class:1@2,3,7,9", layer="hidden")
    assert_allclose(found.attribution, np.maximum((weights[:, None, None] * hidden).sum(axis=0), 0), atol=1e-6)


@pytest.mark.parametrize("target", ["class:2", "class:2@2,3,7,9", "prob:2@2,3,7,9"])
def test_a_loop_explains_what_one_run_does(target):
    plain = model().explain(PHOTO, "gradient", target)
    smooth = model().explain(PHOTO, "smoothgrad", target, samples=2, noise=0)
    assert_allclose(smooth.attribution, plain.attribution, atol=1e-6)
    assert smooth.score == pytest.approx(plain.score, rel=1e-5)


def test_rise_watches_the_probabilities_of_the_region():
    from onnxsal.sampling.designs import Independent
    from onnxsal.sampling.masks import rise_space

    found = model().explain(PHOTO, "rise", "class:2@2,3,7,9", samples=20, cells=4, estimator="paper", seed=1)
    space = rise_space((0, 0, SIZE, SIZE), (SIZE, SIZE), (4, 4))
    masks = space.render(Independent(space, 1, 0.5).draw(0, 20))
    weights = []
    for mask in masks:
        hidden = np.maximum(np.einsum("oc,chw->ohw", FIRST[..., 0, 0], PHOTO.transpose(2, 0, 1) / 255 * mask), 0)
        powers = np.exp(np.einsum("kc,chw->khw", LAST[..., 0, 0], hidden))
        weights.append(((powers / powers.sum(axis=0))[2] * box_mask(2, 3, 7, 9)).sum())
    slow = np.einsum("n,nhw->hw", weights, masks) / 20 / 0.5
    assert_allclose(found.attribution, slow, rtol=1e-4)


def test_occlusion_of_a_class_looks_at_the_pixels_first_predicted():
    mask = PREDICTED == 2
    found = model().explain(PHOTO, "occlusion", "class:2", window=1, stride=1)
    _, logits = forward(PHOTO)
    # A pixel sees itself alone, so that hiding it takes away what it says, if it counts.
    assert_allclose(found.attribution, logits[2] * mask, atol=1e-5)


def test_a_contrast_is_summed_over_a_mask_as_well():
    mask = box_mask(0, 0, 6, 6)
    found = model().explain(PHOTO, "gradient", "2-1", mask=mask)
    assert_allclose(found.attribution, gradient(2, mask) - gradient(1, mask), atol=1e-6)


def test_sigmoids_predict_where_they_are_above_one_half():
    found = model("z = Conv(hidden, last)\n y = Sigmoid(z)").explain(PHOTO, "gradient", "class:2")
    assert_allclose(found.attribution, gradient(2, forward(PHOTO)[1][2] > 0), atol=1e-6)


def test_classes_may_come_last():
    turned = model("z = Conv(hidden, last)\n y = Transpose<perm=[0,2,3,1]>(z)", channels_last=True)
    for target, mask in (("class:2", PREDICTED == 2), ("class:2@2,3,7,9", box_mask(2, 3, 7, 9))):
        assert_allclose(turned.explain(PHOTO, "gradient", target).attribution, gradient(2, mask), atol=1e-6)


def test_a_compiled_explainer_takes_the_mask_as_an_input():
    import onnx_ir as ir

    compiled = ir.to_proto(model().compile("gradient", target="class:1@0,0,1,1")).SerializeToString()
    session = onnxruntime.InferenceSession(compiled, providers=["CPUExecutionProvider"])
    mask = box_mask(2, 3, 7, 9)[None].astype(np.float32)
    x = (PHOTO.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    (found,) = session.run(["attribution"], {"x": x, "target": np.array([1]), "target_mask": mask})
    assert_allclose(found[0], gradient(1, mask[0]), atol=1e-6)


def test_what_cannot_be_meant_is_refused():
    loaded = model()
    with pytest.raises(TargetError, match="a region is x1,y1,x2,y2 with x1 < x2"):
        loaded.explain(PHOTO, "gradient", "class:1@5,5,2,9")
    with pytest.raises(TargetError, match="the region of 'class:1@50,50,60,60' lies outside"):
        loaded.explain(PHOTO, "gradient", "class:1@50,50,60,60")
    with pytest.raises(TargetError, match=r"the mask is of shape \(3, 3\), and image of \(12, 12\)"):
        loaded.explain(PHOTO, "gradient", 1, mask=np.ones((3, 3)))
    grey = np.zeros_like(PHOTO)
    for method in ("gradient", "rise"):
        with pytest.raises(TargetError, match="no pixel is predicted as 2 person.*: say which count, class:2@x1"):
            loaded.explain(grey, method, "class:2")
    with pytest.raises(TargetError, match="a mask beside 'layer:hidden,channel=1'"):
        loaded.explain(PHOTO, "gradient", "layer:hidden,channel=1", mask=np.ones((SIZE, SIZE)))


def test_of_a_classifier_class_k_is_class_k():
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,8,8] x) => (float[1,3,1,1] y) {
      y = GlobalAveragePool(x)
    }"""
    classifier = onnxsal.load(onnx.parser.parse_model(text))
    photo = np.full((8, 8, 3), 9, np.uint8)
    for method in ("gradient", "occlusion"):
        one, other = (classifier.explain(photo, method, target) for target in ("1", "class:1"))
        assert_allclose(one.attribution, other.attribution)
        with pytest.raises(TargetError, match="a region is one of a map of classes"):
            classifier.explain(photo, method, "class:1@0,0,4,4")


def test_the_command_line_takes_a_region(tmp_path):
    from click.testing import CliRunner
    from PIL import Image

    from onnxsal.cli import cli

    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[1,3,12,12] x) => (float[1,3,12,12] y) {
      y = Relu(x)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    at = ["explain", str(tmp_path / "net.onnx"), str(tmp_path / "photo.png"), "-o", str(tmp_path), "--format", "npz"]
    for method, more in (("gradient", []), ("rise", ["--set", "samples=4"])):
        done = CliRunner().invoke(cli, [*at, "-m", method, "-t", "class:1@2,3,7,9", *more])
        assert done.exit_code == 0, done.output
    (file,) = tmp_path.glob("photo_gradient*.npz")
    found = np.load(file)["attribution"]
    assert_allclose(
        found != 0, np.stack([np.zeros((SIZE, SIZE)), box_mask(2, 3, 7, 9) * (PHOTO[..., 1] > 0), 0 * found[0]])
    )


def test_a_checkpoint_of_one_mask_is_not_gone_on_from_under_another(tmp_path):
    loop = onnxsal.LoopOptions(checkpoint=tmp_path / "run.npz")
    few = {"method": "rise", "target": 1, "loop": loop, "samples": 4, "cells": 3}
    first = model().explain(PHOTO, mask=box_mask(0, 0, 6, 6), **few)
    with pytest.raises(OutputError, match="belongs to another explanation"):
        model().explain(PHOTO, mask=box_mask(6, 6, 12, 12), **few)
    again = model().explain(PHOTO, mask=box_mask(0, 0, 6, 6), **few)
    assert_allclose(again.attribution, first.attribution)
