"""The Python API: what can be handed in, what comes out, what is saved."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from support import papers
from support.small import classifier

import onnxsal
from onnxsal.errors import ImageError, LayerError, MethodError, ModelError, OutputError, TargetError, UnsupportedModel
from onnxsal.explanation.compiled import Compiler
from onnxsal.session import Cache

LABELS = ("cat", "dog", "fish", "bird")


@pytest.fixture(scope="module")
def model():
    return onnxsal.load(classifier(LABELS))


@pytest.fixture
def photo(rng):
    return Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))


# ----- What can be loaded -----


def test_every_way_to_hand_in_a_model_gives_the_same_predictions(tmp_path, photo):
    proto = classifier(LABELS)
    path = tmp_path / "small.onnx"
    onnx.save(proto, path)
    ways = [path, str(path), path.read_bytes(), proto, ir.load(path)]
    scores = [[p.score for p in onnxsal.load(way).predict(photo)] for way in ways]
    for other in scores[1:]:
        assert_allclose(other, scores[0], rtol=1e-6)


def test_nodes_in_the_wrong_order_are_put_right(photo):
    """ONNX Runtime runs such a file; converters to half precision write them."""
    turned = classifier(LABELS)
    nodes = list(reversed(turned.graph.node))
    del turned.graph.node[:]
    turned.graph.node.extend(nodes)
    want = onnxsal.load(classifier(LABELS)).explain(photo, "gradient")
    assert_allclose(onnxsal.load(turned).explain(photo, "gradient").attribution, want.attribution, rtol=1e-5)


def test_external_weights_are_found_and_belong_to_the_hash(tmp_path, photo):
    proto = classifier(LABELS)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    loaded = onnxsal.load(tmp_path / "m.onnx")
    want = onnxsal.load(classifier(LABELS)).explain(photo, "gradient")
    assert_allclose(loaded.explain(photo, "gradient").attribution, want.attribution, rtol=1e-5)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert onnxsal.load(tmp_path / "m.onnx").sha256 != loaded.sha256


def test_missing_external_weights_are_named(tmp_path):
    onnx.save(classifier(LABELS), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in 'w\.bin', which is missing from .*: copy it there"):
        onnxsal.load(tmp_path / "m.onnx")


def test_external_weights_outside_the_models_folder_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    onnx.save(classifier(LABELS), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = "../w.bin"
    (tmp_path / "in" / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="outside its own folder"):
        onnxsal.load(tmp_path / "in" / "m.onnx")


def test_an_integer_image_is_differentiated_behind_its_cast(rng):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    m (uint8[N,8,8,3] image) => (float[N,2] logits)
    <int64[4] perm = {0, 3, 1, 2}, float[1] half = {0.0078125}>
    {
      x = Cast<to=1>(image)
      y = Mul(x, half)
      z = Transpose<perm=[0,3,1,2]>(y)
      c = Conv<pads=[1,1,1,1]>(z, w)
      r = Relu(c)
      p = GlobalAveragePool(r)
      logits = Flatten(p)
    }
    """
    proto = onnx.parser.parse_model(text)
    weight = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    loaded = onnxsal.load(proto)
    found = loaded.explain(rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8), "gradient", 1)
    assert found.attribution.shape == (8, 8, 3)
    assert found.attribution.dtype == np.float32
    assert "'x'" in loaded.inspect().image["gradient_point_reason"]


def test_a_half_precision_model_has_the_gradient_of_its_float_twin(rng):
    net = papers.small_network()
    half = onnx.ModelProto()
    half.CopyFrom(net.model)
    for value in [*half.graph.input, *half.graph.output]:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in half.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    x = rng.standard_normal((1, 3, 12, 12)).astype(np.float32)
    one, two = (onnxsal.load(m).explain(x, "gradient", 2) for m in (net.model, half))
    assert two.attribution.dtype == np.float32
    assert np.abs(one.attribution - two.attribution).max() < 0.02 * np.abs(one.attribution).max()


# ----- What can be explained -----


def test_a_path_a_picture_and_an_array_are_one_image(model, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    ways = [tmp_path / "p.png", str(tmp_path / "p.png"), photo, np.asarray(photo)]
    maps = [model.explain(way).heatmap for way in ways]
    for heatmap in maps:
        assert heatmap.shape == (48, 64)
        assert heatmap.dtype == np.float32
        np.testing.assert_array_equal(heatmap, maps[0])


def test_a_list_gives_a_list_and_a_batch_gives_a_list(model, photo, rng):
    assert [e.heatmap.shape for e in model.explain([photo, photo.resize((30, 20))])] == [(48, 64), (20, 30)]
    batch = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
    assert [e.heatmap.shape for e in model.explain(batch)] == [(32, 32)] * 3


def test_an_array_in_the_models_shape_is_one_image(model, rng):
    x = rng.standard_normal((3, 32, 32)).astype(np.float32)
    one, two = model.explain(x, "gradient"), model.explain(x[None], "gradient")
    np.testing.assert_array_equal(one.attribution, two.attribution)
    assert one.attribution.shape == (3, 32, 32)


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 3, 31, 32), (2, 1, 3, 32, 32), (0, 3, 32, 32)])
def test_an_array_of_another_shape_is_refused(model, shape):
    with pytest.raises(ImageError, match="does not fit input 'image'"):
        model.explain(np.zeros(shape, np.float32))


def test_values_that_are_not_finite_are_refused(model):
    with pytest.raises(ImageError, match="not finite"):
        model.explain(np.full((1, 3, 32, 32), np.nan, np.float32))


def test_other_inputs_are_handed_in_by_name(rng, tmp_path):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    vqa (float[N,3,8,8] image, float[N,4] question) => (float[N,4] logits)
    <float[1] none = {0.0}>
    { c = Conv<pads=[1,1,1,1]>(image, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) logits = Mul(f, question) }
    """
    proto = onnx.parser.parse_model(text)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    loaded = onnxsal.load(proto)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    question = np.array([[1.0, 2, 3, 4]], np.float32)
    np.save(tmp_path / "q.npy", question)
    for given in (question, question[0], np.repeat(question, 2, 0), tmp_path / "q.npy"):
        one, two = loaded.explain(x, "gradient", 1, inputs={"question": given})
        assert one.attribution.shape == two.attribution.shape == (3, 8, 8)
    with pytest.raises(
        UnsupportedModel, match=r"inputs beside the image: 'question' float32 \(N, 4\); give them by --input"
    ):
        loaded.explain(x)
    with pytest.raises(ImageError, match="no such input beside the image; it has 'question'"):
        loaded.explain(x, inputs={"query": question})


# ----- What comes out -----


def test_an_explanation_says_where_it_comes_from(model, photo):
    found = model.explain(photo, "grad-cam", "fish")
    assert (found.target.index, found.target.label, str(found.target)) == (2, "fish", "2 fish")
    assert int(found.target) == 2
    assert found.settings["layer"] == "relu"
    assert found.provenance["model_sha256"] == model.sha256
    assert found.provenance["provider"] == "CPUExecutionProvider"
    assert found.score == pytest.approx(next(p.score for p in found.predictions if p.index == 2))
    assert found.score == pytest.approx(next(p.score for p in model.predict(photo) if p.index == 2), rel=1e-5)


def test_predictions_come_best_first_and_add_up(model, photo):
    found = model.predict(photo, top=10)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert sum(p.probability for p in found) == pytest.approx(1)
    assert {p.label for p in found} == set(LABELS)


def test_saving_writes_what_was_explained(model, photo, tmp_path):
    found = model.explain(photo, "gradient")
    for ending in ("png", "npz", "json"):
        found.save(tmp_path / f"e.{ending}")
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.size == photo.size
    with np.load(tmp_path / "e.npz") as arrays:
        np.testing.assert_array_equal(arrays["attribution"], found.attribution)
        np.testing.assert_array_equal(arrays["heatmap"], found.heatmap)
        assert json.loads(str(arrays["facts"]))["method"] == "gradient"
    facts = json.loads((tmp_path / "e.json").read_text())
    assert_allclose(np.array(facts["heatmap"]), found.heatmap, atol=1e-4)


def test_saving_never_overwrites_unasked(model, photo, tmp_path):
    found = model.explain(photo)
    (tmp_path / "e.png").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        found.save(tmp_path / "e.png")
    assert (tmp_path / "e.png").read_text() == "mine"
    found.save(tmp_path / "e.png", overwrite=True)
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.png"]


def test_saving_under_another_ending_is_refused(model, photo, tmp_path):
    with pytest.raises(OutputError, match=r"saved as \.png, \.npz or \.json"):
        model.explain(photo).save(tmp_path / "e.tiff")


def test_a_notebook_shows_the_overlay(model, photo):
    assert model.explain(photo)._repr_png_().startswith(b"\x89PNG")


# ----- Errors -----


def test_unknown_names_are_refused_with_the_nearest(model, photo):
    with pytest.raises(MethodError, match="did you mean 'grad-cam'"):
        model.explain(photo, "gradcam")
    with pytest.raises(MethodError, match="no setting 'reluu'; its settings are: layer, relu"):
        model.explain(photo, "grad-cam", reluu=True)
    with pytest.raises(MethodError, match="relu='maybe' is not true or false"):
        model.explain(photo, "grad-cam", relu="maybe")
    with pytest.raises(MethodError, match="gradient takes no layer; those that do: .*grad-cam"):
        model.explain(photo, "gradient", layer="relu")
    with pytest.raises(LayerError, match="no value or node 'rellu'.*'relu'"):
        model.explain(photo, layer="rellu")
    with pytest.raises(LayerError, match="'logits' has no spatial extent"):
        model.explain(photo, layer="logits")
    with pytest.raises(TargetError, match="no class is labelled 'cow'"):
        model.explain(photo, target="cow")
    with pytest.raises(TargetError, match="no class 4; classes go from 0 to 3"):
        model.explain(photo, target=4)
    with pytest.raises(TargetError, match="lies outside layer 'relu', which has 32 rows and 32 columns"):
        model.explain(photo, target="layer:relu,channel=1,at=40,1")


@pytest.mark.parametrize("method", ["gradient", "rise"])
@pytest.mark.parametrize("target", ["8", "1-8", "top:9"])
def test_a_class_beyond_the_last_is_named_where_only_a_run_counts_them(method, target, tmp_path, photo):
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[n,3,8,8] x, int64[2] r) => (float[n,k] y) '
        "{ p = AveragePool<kernel_shape=[4,4], strides=[4,4]>(x)  q = Reshape(p, r)  m = ReduceMax<keepdims=0>(q)  "
        "z = Sub(m, m)  i = Cast<to=7>(z)  u = Unsqueeze(i, s)  f = Add(e, u)  y = Slice(q, s, f, a) }"
    )
    model = onnx.parser.parse_model(text)
    del model.graph.input[1]
    for name, values in {"s": [0], "e": [8], "a": [1], "r": [0, -1]}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    onnx.save(model, tmp_path / "any.onnx")
    settings = {"samples": 4} if method == "rise" else {}
    loaded = onnxsal.load(tmp_path / "any.onnx")
    with pytest.raises(TargetError, match="there is no class 8; classes go from 0 to 7|9 asks for more .*: 8"):
        loaded.explain(photo, method, target=target, **settings)
    assert loaded.explain(photo, method, target="7", **settings).target.index == 7


# ----- The cache -----


def test_a_second_process_finds_the_compiled_explainer(monkeypatch, tmp_path, photo):
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path / "cache"))
    first = onnxsal.load(classifier(LABELS)).explain(photo)
    again = onnxsal.load(classifier(LABELS))
    monkeypatch.setattr("onnxsal.explanation.compiled.Compiler.build", lambda *_, **__: pytest.fail("built again"))
    np.testing.assert_array_equal(again.explain(photo).heatmap, first.heatmap)


@pytest.mark.parametrize("kept", ["cache", ""])
def test_sessions_used_long_ago_are_closed_and_opened_again_when_needed(kept, monkeypatch, tmp_path, photo):
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path / kept) if kept else "")
    monkeypatch.setattr("onnxsal.explanation.compiled.MOST_SESSIONS", 2)
    model = onnxsal.load(classifier(LABELS))
    methods = ("gradient", "grad-cam", "grad-x-input", "guided-backprop")
    first = [model.explain(photo, method).attribution for method in methods]
    assert len(model._opened.compiler._ready) == 2
    monkeypatch.setattr(Compiler, "build", None)  # nothing has to be built anew
    for method, attribution in zip(methods, first, strict=True):
        assert_allclose(model.explain(photo, method).attribution, attribution)


def test_a_damaged_entry_is_built_again(monkeypatch, tmp_path, photo):
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path / "cache"))
    first = onnxsal.load(classifier(LABELS)).explain(photo)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(onnxsal.load(classifier(LABELS)).explain(photo).heatmap, first.heatmap)


def test_another_card_is_another_explanation(photo):
    one = onnxsal.load(classifier(LABELS)).explain(photo, "gradient")
    two = onnxsal.load(classifier(LABELS), card={"mean": [0.1]}).explain(photo, "gradient")
    assert not np.array_equal(one.attribution, two.attribution)


def test_explainers_are_written_for_what_runs_them(model):
    for providers, runtime in ((["CPUExecutionProvider"], "native"), (["CUDAExecutionProvider"], "gpu")):
        assert Compiler(model.network, providers, Cache(None)).runtime == runtime


@pytest.mark.parametrize("method", ["gradient", "grad-cam", "rise", "smoothgrad"])
def test_inputs_without_samples_are_the_same_for_every_image_and_every_run(method, rng):
    # Of the first, the size is that of no batch; of the second, it may be taken for one; the third has one row for all.
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,16,16] image, float[1] gain, float[4,2] table, float[N,4] bias) => (float[N,4] y) {
            louder = Mul(image, gain)
            mixed = Conv<pads=[1,1,1,1]>(louder, w)
            map = Relu(mixed)
            pooled = GlobalAveragePool(map)
            flat = Flatten(pooled)
            rows = ReduceSum<keepdims=0>(table)
            scores = Mul(flat, rows)
            y = Add(scores, bias)
        }"""
    proto = onnx.parser.parse_model(text)
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    loaded = onnxsal.load(proto)
    x = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    inputs = {"gain": np.float32([1.5]), "table": np.float32(rng.standard_normal((4, 2)) + 1), "bias": np.eye(4)}
    few = {"samples": 4} if method in ("rise", "smoothgrad") else {}
    together = loaded.explain(x, method, target=1, inputs=inputs, **few)
    for i, found in enumerate(together):
        alone = loaded.explain(x[i], method, target=1, inputs=inputs | {"bias": np.eye(4)[i : i + 1]}, **few)
        assert found.score == pytest.approx(alone.score, rel=1e-5)
        np.testing.assert_allclose(found.attribution, alone.attribution, rtol=1e-4, atol=1e-6)
    with pytest.raises(ImageError, match=r"input 'table': shape \(3, 2\) does not fit \(4, 2\)"):
        loaded.explain(x, method, inputs=inputs | {"table": np.ones((3, 2))})


def test_images_go_one_by_one_through_a_model_that_says_the_size_of_one(rng):
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,8,8] image, float[1,2] size) => (float[N,3] y) {
            pooled = GlobalAveragePool(image)
            flat = Flatten(pooled)
            area = ReduceProd<keepdims=0>(size)
            y = Mul(flat, area)
        }"""
    loaded = onnxsal.load(onnx.parser.parse_model(text))
    x = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    maps = loaded.explain(x, "rise", inputs={"size": np.float32([[2, 3]])}, samples=4)
    assert [e.score for e in maps] == pytest.approx(6 * x.mean(axis=(2, 3)).max(axis=1), rel=1e-4)


def test_an_explanation_says_in_one_line_what_it_is_of(model, photo):
    said = repr(model.explain(photo, "grad-cam", "dog"))
    assert said.startswith("<onnxsal.Explanation of 'image' by grad-cam: 1 dog, score ")
    assert len(said) < 100
