"""Methods on quantised models: the rectifiers that quantisation swallowed, scores that saturate, images of bytes."""

import numpy as np
import onnx
import pytest

import onnxsal

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> agraph '
HELD = """<float i = {0.01}, uint8 iz = {0}, float s = {0.02}, uint8 sz = {0}, float l = {0.004}, uint8 lz = {100},
 uint8[4,3,3,3] w, float ws = {0.01}, uint8 wz = {128}, uint8[5,4,1,1] h, int64[2] rows = {0,-1}>"""
QDQ = """{
  x = DequantizeLinear(image, i, iz) wd = DequantizeLinear(w, ws, wz) hd = DequantizeLinear(h, ws, wz)
  c = Conv<pads=[1,1,1,1]>(x, wd) q = QuantizeLinear(c, s, sz) d = DequantizeLinear(q, s, sz)
  g = GlobalAveragePool(d) gq = QuantizeLinear(g, s, sz) gd = DequantizeLinear(gq, s, sz)
  z = Conv(gd, hd) zr = Reshape(z, rows) zq = QuantizeLinear(zr, l, lz) logits = DequantizeLinear(zq, l, lz) }"""
QOPERATOR = """{
  q = QLinearConv<pads=[1,1,1,1]>(image, i, iz, w, ws, wz, s, sz)
  gq = com.microsoft.QLinearGlobalAveragePool(q, s, sz, s, sz)
  zc = QLinearConv(gq, s, sz, h, ws, wz, l, lz) zq = Reshape(zc, rows) logits = DequantizeLinear(zq, l, lz) }"""
FORMS = {"QDQ": QDQ, "QOperator": QOPERATOR}


def loaded(form: str, step: float = 0.004) -> onnxsal.Model:
    """A convolution whose ReLU is in its range, global average pooling, a linear head; an image of bytes."""
    held = HELD.replace("float l = {0.004}", f"float l = {{{step}}}")
    model = onnx.parser.parse_model(f"{HEADER} (uint8[1,3,8,8] image) => (float[1,5] logits) {held} {FORMS[form]}")
    rng = np.random.default_rng(0)
    for info in list(model.graph.value_info):
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if shape and info.name in ("w", "h"):
            model.graph.initializer.append(
                onnx.numpy_helper.from_array(rng.integers(40, 216, shape).astype(np.uint8), info.name)
            )
    del model.graph.value_info[:]
    return onnxsal.load(model.SerializeToString(), card={"scale": 1})


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)


def by_hand(model: onnxsal.Model, image: np.ndarray, target: int):
    """Return the folded ReLU's mask, what arrives at it, and the transposed convolution."""
    held = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load_from_string(model.network.source.data).graph.initializer
    }
    w, h = ((held[n].astype(np.float64) - 128) * 0.01 for n in "wh")
    padded = np.pad((image[0].astype(np.float64)) * 0.01, [(0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    steps = np.rint(np.einsum("chwij,ocij->ohw", windows, w) / 0.02)
    mask = (steps > 0) & (steps < 255)

    def adjoint(g: np.ndarray) -> np.ndarray:
        made = np.zeros_like(padded)
        for (y, x), _ in np.ndenumerate(np.zeros((8, 8))):
            made[:, y : y + 3, x : x + 3] += np.einsum("o,ocij->cij", g[:, y, x], w)
        return made[:, 1:-1, 1:-1]

    arrived = np.broadcast_to(h[target].reshape(-1, 1, 1) / 64, mask.shape)
    return mask, arrived, adjoint


@pytest.mark.parametrize("form", FORMS)
def test_a_relu_in_the_range_is_one_for_every_method(form, image):
    model = loaded(form)
    mask, arrived, adjoint = by_hand(model, image, 2)
    assert 0.2 < mask.mean() < 0.8
    expected = {
        "gradient": adjoint(mask * arrived),
        "guided-backprop": adjoint(mask * np.maximum(arrived, 0)),
        "deconvnet": adjoint(np.maximum(arrived, 0)),
    }
    for method, wanted in expected.items():
        found = model.explain(image, method, 2).attribution
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=method)
    verdicts = {v.method: v for v in model.inspect().methods}
    assert len(verdicts["guided-backprop"].rectifiers) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_of_integers_is_explained_as_what_it_stands_for(form, image):
    model = loaded(form)
    found = model.explain(image, "grad-cam", 2, relu=False)
    assert found.attribution.shape == (8, 8)
    assert model.inspect().default_layer == {"QDQ": "d", "QOperator": "q"}[form]
    cam = model.explain(image, "cam", 2).attribution
    np.testing.assert_allclose(cam / 64, found.attribution, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_score_that_saturates_has_its_reasons(form, image):
    narrow = loaded(form, step=0.00001)
    scores = {p.index: p.score for p in narrow.predict(image)}
    top = max(scores, key=scores.get)
    assert scores[top] == pytest.approx(155 * 0.00001)  # the end of the range
    np.testing.assert_allclose(
        narrow.explain(image, "gradient", top).attribution, loaded(form).explain(image, "gradient", top).attribution
    )


def test_a_path_to_an_image_of_bytes_sums_to_what_changed(image):
    held = "<float i = {0.01}, uint8 iz = {7}, float[5,3,8,8] w, int64[2] rows = {0,-1}>"
    nodes = "x = DequantizeLinear(image, i, iz) z = Conv(x, w) logits = Reshape(z, rows)"
    text = f"{HEADER} (uint8[1,3,8,8] image) => (float[1,5] logits) {held} {{ {nodes} }}"
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(rng.standard_normal((5, 3, 8, 8)).astype(np.float32), "w")
    )
    del model.graph.value_info[:]
    linear = onnxsal.load(model.SerializeToString(), card={"scale": 1})
    found = linear.explain(image, "integrated-gradients", 3, steps=4)
    scores = [{p.index: p.score for p in linear.predict(x)}[3] for x in (image, np.zeros_like(image))]
    assert found.attribution.sum() == pytest.approx(scores[0] - scores[1], rel=0.02, abs=0.05)
