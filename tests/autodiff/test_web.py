"""Gradients for browsers: the same numbers, in operators that browsers have."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from autodiff.test_rules import FAMILIES
from support.derivatives import case, directional_derivatives

from onnxsal.autodiff import STANDARD, vjp
from onnxsal.autodiff.registry import SCATTER_FREE
from onnxsal.errors import UnsupportedModel
from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.types import constant
from onnxsal.methods.rectifiers import GUIDED

BANNED = {"ScatterElements", "ScatterND", "MaxUnpool", "Col2Im"}
REASONS = ("the kernel's size is known at run time only", "antialias", "its steps are known at run time only")


def emitted(case, target, **settings):
    """Return the nodes that the gradient adds to the model."""
    model = ir.from_proto(case.model(double=False))
    own = {v.name for n in canonicalise(model).graph for v in n.outputs}
    wrt = case.wrt or [v.name for v in model.graph.inputs if v.dtype.is_floating_point()]
    graph = vjp(model, of=model.graph.outputs[0].name, wrt=wrt, target=target, **settings).graph
    return [n for n in ir.traversal.RecursiveGraphIterator(graph) if not {v.name for v in n.outputs} & own]


def is_lacking(node):
    """Tell whether browsers lack what a node needs."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return not {"kernel_shape", "strides", "dilations", "group"} <= set(node.attributes)
    if node.op_type == "Slice" and len(node.inputs) > 4:
        steps = constant(node.inputs[4])
        return steps is None or (steps < 0).any()
    return (
        node.op_type in BANNED
        or (node.op_type == "MaxPool" and len(node.outputs) > 1)
        or (node.op_type == "Resize" and node.attributes.get_int("antialias", 0))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_emitted_that_browsers_lack_and_the_numbers_stay(family):
    for one in import_module(f"autodiff.cases.{family}").CASES:
        try:
            web = emitted(one, "web")
        except UnsupportedModel as error:
            assert any(f"({reason})" in str(error) for reason in REASONS), f"{one}: {error}"  # noqa: PT017
            continue
        assert not any(map(is_lacking, web)), one
        if [n.op_type for n in web] != [n.op_type for n in emitted(one, "native")]:
            once = replace(one, runtimes=one.runtimes[-1:])
            for runtime, (analytic, numeric) in directional_derivatives(once, np.random.default_rng(0), "web").items():
                tolerance = one.rtol or (1e-6 if runtime == "reference" else 1e-4)
                assert analytic == pytest.approx(numeric, rel=tolerance, abs=tolerance / 100), one


def test_every_rule_for_browsers_stands_in_for_a_standard_one():
    assert set(SCATTER_FREE) <= set(STANDARD)


MORE = [
    case(
        "Gather",
        "(double[n,5] x, int64[2,3] i) => (double[n,2,3] y) { y = Gather<axis=1>(x, i) }",
        feeds={"i": [[0, -1, 2], [2, 2, 4]]},
        note="indices of rank 2",
    ),
    case(
        "Gather",
        "(double[6,2] x) => (double[5,2] y) <int64[5] i = {3, -3, 0, 3, 1}> { y = Gather(x, i) }",
        note="constant indices that repeat",
    ),
    case(
        "Gather",
        f"(double[3,2] x) => (double[20,2] y) <int64[20] i = {{{'0, ' * 10}{', '.join('2' * 10)}}}> "
        "{ y = Gather(x, i) }",
        note="constant indices that repeat often",
    ),
    case(
        "Compress",
        "(double[4,n] x) => (double[4,2] y) <bool[3] c = {1, 0, 1}> { y = Compress<axis=1>(x, c) }",
        feeds={"x": np.random.default_rng(2).standard_normal((4, 4))},
        note="fewer conditions than entries",
    ),
    case(
        "Pad",
        '(double[n,2,m] x, int64[6] p) => (double[a,b,c] y) { y = Pad<mode="reflect">(x, p) }',
        feeds={"p": [1, 0, 2, 2, 1, 0]},
        note="pads known at run time only",
    ),
    case(
        "MaxPool",
        "(double[1,2,h,w] x) => (double[1,2,a,b] y) "
        "{ y = MaxPool<kernel_shape=[3,2],strides=[2,1],pads=[1,0,1,1],ceil_mode=1>(x) }",
        feeds={"x": np.random.default_rng(3).standard_normal((1, 2, 6, 7))},
        note="sizes known at run time only, beyond the padding",
    ),
    case(
        "GridSample",
        "(double[1,5,3,4] x, double[1,2,3,2] t) => (double[1,5,2,3] y) { y = GridSample(x, t) }",
        wrt=("x",),
        runtimes=("ort",),
        numeric="ort",
        note="more channels than columns",
    ),
]


@pytest.mark.parametrize("one", MORE, ids=str)
def test_what_stands_in_for_a_scatter_agrees_with_finite_differences(one, rng):
    assert not any(map(is_lacking, emitted(one, "web")))
    for runtime, (analytic, numeric) in directional_derivatives(one, rng, "web").items():
        tolerance = 1e-6 if runtime == "reference" else 1e-4
        assert analytic == pytest.approx(numeric, rel=tolerance, abs=tolerance / 100), runtime


def test_the_first_of_equal_maxima_gets_all_where_sizes_are_known_at_run_time_only():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[1,1,h,w] x) => (float[1,1,a,b] y) '
        "{ y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }"
    )
    graph = ir.to_proto(vjp(model, of="y", wrt="x", target="web"))
    feeds = {"x": np.ones((1, 1, 5, 4), np.float32), "cotangent_y": np.full((1, 1, 2, 2), 3, np.float32)}
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["grad_x"], feeds)
    wanted = np.zeros((5, 4))
    wanted[:4:2, ::2] = 3
    assert found[0, 0].tolist() == wanted.tolist()


def test_modified_gradients_are_written_for_browsers_too():
    relu = case("Gather", "(double[3,2] x, int64[2] i) => (double[2,2] y) { r = Relu(x) y = Gather(r, i) }")
    assert not any(map(is_lacking, emitted(relu, "web", rules=GUIDED)))
    count = [n.op_type for n in emitted(relu, "web", rules=GUIDED)].count("Relu")
    assert count == [n.op_type for n in emitted(relu, "native", rules=GUIDED)].count("Relu") == 1


def test_all_that_cannot_be_written_is_named_at_once():
    lacking = case(
        "Resize",
        """(double[1,1,6,6] x, int64[2] k) => (double[1,1,a,b] z) <float[4] s = {1, 1, 0.5, 0.5}, int64[2] b = {0, 0},
            int64[2] a = {2, 3}> { e = Shape(x) e2 = Slice(e, a, a) y = Resize<mode="linear",antialias=1>(x, , s)
            l = Shape<start=2>(y) z = Slice(y, b, l, a, k) }""",
    )
    with pytest.raises(UnsupportedModel, match=r"Slice .*its steps.*Resize .*antialias"):
        emitted(lacking, "web")


def test_a_comparison_that_would_fill_the_memory_is_refused():
    wide = case("GatherElements", "(double[50000] x, int64[50000] i) => (double[50000] y) { y = GatherElements(x, i) }")
    with pytest.raises(UnsupportedModel, match="2500000000 pairs"):
        emitted(wide, "web")


def test_an_unknown_target_is_an_error():
    with pytest.raises(ValueError, match="no target 'wasm'; there are 'native', 'gpu', 'web'"):
        emitted(case("Relu", "(double[2] x) => (double[2] y) { y = Relu(x) }"), "wasm")
