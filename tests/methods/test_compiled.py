"""What `compile` writes: one ordinary ONNX file that explains wherever ONNX Runtime runs."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.explainable import (
    PAIRS,
    UNFIT,
    UNSAID,
    UNSAID_WEIGHTS,
    fill,
    loaded,
    proto,
    random_input,
    replaced,
    typical_input,
)

import onnxsal
from onnxsal.errors import MethodError, MissingRule
from onnxsal.methods import methods
from onnxsal.methods.registry import make_method
from onnxsal.model.card import card_from_metadata

everywhere = pytest.mark.parametrize(("method", "net"), PAIRS)
EXPLICIT = {"kernel_shape", "strides", "dilations", "group", "pads"}


@cache
def compiled(method: str, net: str) -> onnx.ModelProto:
    return onnx_ir.to_proto(loaded(net).compile(method))


@cache
def session(method: str, net: str) -> onnxruntime.InferenceSession:
    return open_session(compiled(method, net))


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, x: np.ndarray, target: list[int]) -> dict[str, np.ndarray]:
    names = [output.name for output in opened.get_outputs()]
    image = opened.get_inputs()[0].name
    return dict(zip(names, opened.run(names, {image: x, "target": np.array(target)}), strict=True))


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]


def weights(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


# ----- The file -----


@everywhere
def test_inputs_are_the_models_own_and_the_target(method, net):
    theirs = [i for i in proto(net).graph.input if i.name not in weights(proto(net))]
    *ours, target = compiled(method, net).graph.input
    assert [(i.name, i.type.tensor_type.elem_type) for i in ours] == [
        (i.name, i.type.tensor_type.elem_type) for i in theirs
    ]
    assert [len(sizes(i)) for i in ours] == [len(sizes(i)) for i in theirs]
    for mine, one in zip(ours, theirs, strict=True):
        assert all(a == b for a, b in zip(sizes(mine), sizes(one), strict=True) if isinstance(b, int))
    assert target.name == "target"
    assert target.type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert len(sizes(target)) == 1
    assert sizes(target)[0] in (sizes(ours[0])[0], sizes(compiled(method, net).graph.output[0])[0])


@everywhere
def test_outputs_are_the_models_own_the_attribution_and_the_map(method, net):
    *ours, attribution, saliency = compiled(method, net).graph.output
    theirs = list(proto(net).graph.output)
    assert [(o.name, o.type.tensor_type.elem_type) for o in ours] == [
        (o.name, o.type.tensor_type.elem_type) for o in theirs
    ]
    assert [attribution.name, saliency.name] == ["attribution", "saliency_map"]
    assert {v.type.tensor_type.elem_type for v in (attribution, saliency)} == {onnx.TensorProto.FLOAT}
    image = sizes(proto(net).graph.input[0])
    height, width = image[1:3] if net == "channels last" else image[2:4]
    assert len(sizes(saliency)) == 3
    if isinstance(height, int):
        assert sizes(saliency)[1:] == [height, width]


@everywhere
def test_the_file_is_valid_self_contained_and_within_the_versions_promised(method, net):
    model = compiled(method, net)
    onnx.checker.check_model(model, full_check=True)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    assert model.ir_version <= 10
    assert {o.domain: o.version for o in model.opset_import} == {"": 21}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not model.functions
    assert {node.domain for node in nodes(model.graph)} <= {""}


@everywhere
def test_convolutions_say_all_their_attributes(method, net):
    convolutions = [n for n in nodes(compiled(method, net).graph) if n.op_type in ("Conv", "ConvTranspose")]
    assert convolutions
    for node in convolutions:
        said = {attribute.name for attribute in node.attribute}
        assert said >= EXPLICIT, f"{node.op_type} {node.name!r} leaves out {EXPLICIT - said}"
        assert "auto_pad" not in said


@pytest.mark.parametrize(("method", "net"), [p for p in PAIRS if p[1] in ("any size", "channels last", "vit")])
def test_what_is_written_for_a_gpu_explains_alike(method, net):
    written = onnx_ir.to_proto(loaded(net).compile(method, runtime="gpu"))
    x = random_input(net, 1)
    native, gpu = (run(opened, x, [-1]) for opened in (session(method, net), open_session(written)))
    for name in ("attribution", "saliency_map"):
        assert_allclose(gpu[name], native[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("method", "net"), [p for p in PAIRS if p[1] in ("any size", "channels last", "vit")])
def test_what_is_written_for_browsers_explains_alike_in_operators_they_have(method, net):
    written = onnx_ir.to_proto(loaded(net).compile(method, runtime="web"))
    for node in nodes(written.graph):
        assert node.op_type not in ("ScatterElements", "ScatterND", "MaxUnpool", "Col2Im")
        assert node.op_type != "MaxPool" or len(node.output) == 1
    x = random_input(net, 1)
    native, web = (run(opened, x, [-1]) for opened in (session(method, net), open_session(written)))
    for name in ("attribution", "saliency_map"):
        assert_allclose(web[name], native[name], rtol=1e-5, atol=1e-6)


def test_an_unknown_runtime_is_an_error():
    with pytest.raises(MethodError, match="no runtime 'wasm'; there are native, gpu, web"):
        loaded("small").compile("gradient", runtime="wasm")


def test_only_an_auto_pad_whose_padding_the_run_alone_knows_stays():
    source = fill(UNSAID.replace("[N,3,12,12]", "[N,3,H,W]"), UNSAID_WEIGHTS)
    model = onnx_ir.to_proto(onnxsal.load(source, card={"scale": 1, "size": [12, 12]}).compile("gradient"))
    said = [{a.name for a in n.attribute} for n in nodes(model.graph) if n.op_type in ("Conv", "ConvTranspose")]
    assert [names for names in said if not names >= EXPLICIT] == [EXPLICIT - {"pads"} | {"auto_pad"}]
    opened = open_session(model)
    for height, width in ((12, 12), (9, 14)):
        x = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
        assert run(opened, x, [0])["attribution"].shape == x.shape


@everywhere
def test_the_card_is_in_the_file(method, net):
    metadata = {entry.key: entry.value for entry in compiled(method, net).metadata_props}
    assert card_from_metadata(metadata) == loaded(net).card.card


@pytest.mark.parametrize(("method", "net"), UNFIT)
def test_what_does_not_fit_is_not_compiled(method, net):
    with pytest.raises(MethodError, match=UNFIT[method, net]):
        loaded(net).compile(method)


# ----- What it computes -----


@everywhere
def test_the_models_own_outputs_stay_what_they_were(method, net):
    x = random_input(net, 1)
    *own, _, _ = run(session(method, net), x, [-1]).values()
    plain = open_session(proto(net)).run(None, {session(method, net).get_inputs()[0].name: x})
    for mine, theirs in zip(own, plain, strict=True):
        assert_allclose(mine, theirs, rtol=2e-3 if net == "half precision" else 1e-4, atol=1e-5)


@everywhere
def test_the_map_is_what_explain_gives(method, net):
    x = random_input(net, 1)
    found = loaded(net).explain(x, method, 1)
    results = run(session(method, net), x, [1])
    assert_allclose(results["attribution"][0], found.attribution, rtol=1e-5, atol=1e-7)
    assert_allclose(results["saliency_map"][0], found.heatmap, atol=1e-6)
    assert results["saliency_map"].max() in (0, 1)


@everywhere
def test_the_map_changes_with_the_input_and_with_the_target(method, net):
    one, two = (typical_input(net, seed) for seed in (0, 1))
    maps = [run(session(method, net), x, [target]) for x, target in ((one, 0), (two, 0), (one, 1))]
    for name in ("attribution", "saliency_map"):
        assert (maps[0][name] != maps[2][name]).any()
        # Without max-pooling DeconvNet looks at the weights only: it has no switches, and no masks.
        assert (maps[0][name] != maps[1][name]).any() == ((method, net) != ("deconvnet", "unsaid"))


@everywhere
def test_minus_one_is_the_top_class_of_each_sample(method, net):
    rows = random_input(net, 4)
    fixed = net == "batch of one"
    for x in np.split(rows, 4) if fixed else [rows]:
        scores = next(iter(run(session(method, net), x, [-1] * len(x)).values()))
        best = scores.argmax(1).tolist()
        for name, array in run(session(method, net), x, [-1] * len(x)).items():
            assert_array_equal(array, run(session(method, net), x, best)[name])


@pytest.mark.parametrize("method", methods(sampled=False))
def test_each_sample_has_its_own_target(method):
    rows = random_input("residual", 3)
    together = run(session(method, "residual"), rows, [4, -1, 2])
    for i, target in enumerate([4, -1, 2]):
        alone = run(session(method, "residual"), rows[i : i + 1], [target])
        assert_allclose(together["attribution"][i], alone["attribution"][0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", methods(sampled=False))
def test_a_contrast_has_a_second_target(method):
    model = loaded("small").compile(method, target="0-1")
    opened = open_session(onnx_ir.to_proto(model))
    assert [i.name for i in opened.get_inputs()] == ["image", "target", "target_minus"]
    x = random_input("small", 2)
    feeds = {"image": x, "target": np.array([2, 3]), "target_minus": np.array([1, 1])}
    found = opened.run(["attribution"], feeds)[0]
    for i, text in enumerate(("2-1", "3-1")):
        want = loaded("small").explain(x[i : i + 1], method, text).attribution
        assert_allclose(found[i], want, rtol=1e-4, atol=1e-6)


def test_a_neuron_of_the_compiled_layer_is_chosen_when_it_runs():
    opened = open_session(onnx_ir.to_proto(loaded("small").compile("guided-backprop", target="layer:a1,channel=0")))
    x = random_input("small", 1)
    for channel in (1, 3):
        want = loaded("small").explain(x, "guided-backprop", f"layer:a1,channel={channel}").attribution
        assert_array_equal(run(opened, x, [channel])["attribution"][0], want)


def with_operator(name: str, *known: str) -> onnxsal.Model:
    """Return the small model, its image passed through an operator of another domain first."""
    domain = name.rsplit(".", 1)[0]
    text = replaced(
        ("c1 = Conv<pads=[1,1,1,1]>(image,", f"x = {name}(image)\nc1 = Conv<pads=[1,1,1,1]>(x,"),
        ('["" : 17]', f'["" : 17, "{domain}" : 1]'),
        ("[N,4] logits)\n", f"[N,4] logits)\n<{', '.join(known)}>\n" if known else "[N,4] logits)\n"),
    )
    return onnxsal.load(fill(text), card={"scale": 1})


@pytest.mark.parametrize("method", ["cam", "grad-cam", "gradient"])
def test_operators_of_the_models_own_domains_stay_and_no_domain_is_added(method):
    model = onnx_ir.to_proto(with_operator("com.microsoft.QuickGelu").compile(method))
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain for o in model.opset_import} == {"", "com.microsoft"}
    assert [n.op_type for n in nodes(model.graph) if n.domain] == ["QuickGelu"]
    opened = open_session(model)
    assert run(opened, random_input("small", 2), [2, 0])["saliency_map"].shape == (2, 12, 12)


def test_a_gradient_through_an_operator_of_another_domain_is_one_clear_error():
    with pytest.raises(MissingRule, match="com.acme::Swirl.*explain a layer after 'x'"):
        with_operator("com.acme.Swirl", "float[N,3,12,12] x").compile("gradient")


def test_a_settings_value_is_part_of_the_file():
    signed = open_session(onnx_ir.to_proto(loaded("residual").compile("grad-cam", relu=False)))
    early = open_session(onnx_ir.to_proto(loaded("residual").compile("grad-cam", layer="/relu1/Relu_output_0")))
    x = random_input("residual", 1)
    assert run(signed, x, [0])["attribution"].min() < 0
    assert run(early, x, [0])["attribution"].shape == (1, 24, 32)


# ----- What loops run -----


@pytest.mark.parametrize("target", ["1", "0-1", "prob:1", "layer:a2,channel=2"])
@pytest.mark.parametrize("method", ["gradient", "grad-cam", "guided-backprop"])
def test_what_a_loop_runs_gives_the_attribution_alone_and_the_same(method, target):
    compiler, made = loaded("small")._opened.compiler, make_method(method, {})
    (aim,) = loaded("small").read_target(target)
    bare = compiler.build(made, aim.form, bare=True)
    assert [output.name for output in bare.graph.outputs] == ["attribution"]
    if aim.form.kind != "neuron":
        assert "ArgMax" not in {node.op_type for node in bare.graph}
    opened = open_session(onnx_ir.to_proto(bare))
    x = random_input("small", 1)
    minus = {} if aim.minus is None else {"target_minus": np.array([aim.minus])}
    (found,) = opened.run(None, {"image": x, "target": np.array([aim.index])} | minus)
    assert_array_equal(found[0], loaded("small").explain(x, method, target).attribution)
