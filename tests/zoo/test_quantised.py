"""Quantised models as they are deployed: their own scores bit by bit, and the maps of their float counterparts.

`PYTHONPATH=.:tests python tests/zoo/test_quantised.py` prints how far the maps agree.
"""

from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
from scipy.stats import spearmanr
from support.quantised import session
from zoo.shared import card_of, model_path, needs_zoo, photo_path
from zoo.test_explanations import VERIFIED

import onnxsal
from onnxsal.image import open_image, preprocess

COUNTERPART = {
    "mobilenet_v1_0.5_224_tf_nhwc_u8_qdq": "mobilenet_v1_0.5_224_tf_nhwc_f32",
    "mobilenetv2-12-int8_qoperator": "mobilenetv2-12_dequantised_fp32",
}
YOLO = "yolov8n_640_dynamic_int8"
NEURON = "layer:/model.22/cv3.2/cv3.2.2/Conv_output_0,channel=5"
LAST = "/model.21/cv2/act/Mul_output_0"
REQUESTS = [
    *((stem, {"method": m}) for stem in COUNTERPART for m in ("gradient", "guided-backprop", "grad-cam", "cam")),
    *((stem, {"method": "gradient", "target": "prob:1"}) for stem in COUNTERPART),
    (YOLO, {"method": "gradient", "target": NEURON}),
    (YOLO, {"method": "grad-cam", "target": NEURON, "layer": LAST}),
]


@cache
def load(stem):
    return onnxsal.load(model_path(stem), card=card_of(stem))


def agreement(stem, photo, method):
    """Return cosine and rank correlation of a quantised model's attribution with its float counterpart's."""
    target = load(COUNTERPART[stem]).predict(photo_path(photo))[0].index
    maps = [load(s).explain(photo_path(photo), method, target).attribution for s in (stem, COUNTERPART[stem])]
    a, b = (m.astype(np.float64).ravel() for m in maps)
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), spearmanr(a, b).statistic


PHOTOS = [(stem, photo) for stem, other in COUNTERPART.items() for photo in VERIFIED[other]]


@needs_zoo
@pytest.mark.parametrize(("stem", "photo"), PHOTOS)
def test_grad_cam_of_the_integers_is_that_of_the_floats(stem, photo):
    cosine, ranks = agreement(stem, photo, "grad-cam")
    assert cosine > 0.98
    assert ranks >= 0.9


@needs_zoo
@pytest.mark.parametrize("stem", COUNTERPART)
def test_guided_backprop_of_the_integers_is_that_of_the_floats(stem):
    # The ReLUs that quantisation swallowed are all that this method changes.
    cosine, ranks = agreement(stem, "dog_cat.png", "guided-backprop")
    assert cosine > 0.9
    assert ranks > 0.85


@needs_zoo
@pytest.mark.parametrize(
    ("stem", "request_"), REQUESTS, ids=lambda v: v if isinstance(v, str) else "-".join(v.values())
)
@pytest.mark.parametrize("level", ["BASIC", "ALL"])
def test_the_scores_beside_an_explanation_are_the_files_own_bit_by_bit(stem, request_, level):
    explainer = session(ir.to_proto(load(stem).compile(**request_)), level)
    original = session(ir.to_proto(ir.external_data.load_to_model(ir.load(model_path(stem)))), level)
    (image,) = original.get_inputs()
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[image.type]
    x = preprocess(open_image(photo_path("dog_cat.png")), card_of(stem), dtype=dtype, shape=image.shape).x
    names = [o.name for o in original.get_outputs()]
    found = explainer.run(names, {image.name: x, "target": np.array([1])})
    for a, b in zip(found, original.run(names, {image.name: x}), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_zoo
def test_the_relus_that_quantisation_swallowed_are_listed():
    verdicts = {stem: {v.method: v for v in load(stem).inspect().methods} for stem in COUNTERPART}
    counts = {stem: len(found["guided-backprop"].rectifiers) for stem, found in verdicts.items()}
    # One behind each convolution but the logits'; in MobileNetV2 not behind the 17 bottlenecks.
    assert list(counts.values()) == [27, 52 - 17]
    by_gradient = ("gradient", "grad-x-input", "guided-backprop", "deconvnet", "cam", "grad-cam", "guided-grad-cam")
    assert all(found[name].works for found in verdicts.values() for name in by_gradient)


def table():
    """Print how far the maps of integers and floats agree, per photo and method: cosine / rank correlation."""
    methods = ("gradient", "guided-backprop", "grad-cam")
    print("| model | photo |", " | ".join(methods), "|")
    print("|---|---|---|---|---|")
    for stem, photo in PHOTOS:
        cells = ["{:.3f} / {:.3f}".format(*agreement(stem, photo, method)) for method in methods]
        print(f"| {stem} | {photo} |", " | ".join(cells), "|")


if __name__ == "__main__":
    table()
