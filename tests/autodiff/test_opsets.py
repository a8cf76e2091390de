"""Opsets 7 to 26: canonical form means what the file meant, and its gradient is that of the file's forward pass."""

from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.derivatives import Case, random_feeds, run
from support.spellings import SPELLINGS, Spelling, first_of_each_version, parse

from onnxsal.autodiff import vjp
from onnxsal.graph.canonical import canonicalise

# Of 27 and 28 ONNX Runtime 1.32 lacks many a kernel.
FIRST_OPSET, LAST_OPSET = 7, 26
FAMILIES = sorted(p.stem for p in (Path(__file__).parent / "cases").glob("*.py"))


def float_names(feeds: dict) -> list[str]:
    return [name for name, array in feeds.items() if array.dtype.kind == "f"]


def compare(model: onnx.ModelProto, feeds: dict, wrt: list[str], rng: np.random.Generator) -> None:
    """Compare a model with its canonical form, and its gradient with differences of its own forward pass."""
    outputs = [value.name for value in model.graph.output]
    given = run(model, feeds, outputs, "ort")
    canonical = run(ir.to_proto(canonicalise(ir.from_proto(model))), feeds, outputs, "ort")
    for name, expected, found in zip(outputs, given, canonical, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    y, v = outputs[0], rng.standard_normal(given[0].shape)
    graph = ir.to_proto(vjp(model, of=y, wrt=wrt))
    grads = run(graph, feeds | {f"cotangent_{y}": v}, [f"grad_{name}" for name in wrt], "ort")
    u = {name: rng.standard_normal(feeds[name].shape) for name in wrt}
    step = 2e-3
    plus, minus = (
        np.float64(run(model, feeds | {n: feeds[n] + s * step * u[n] for n in wrt}, [y], "ort")[0]) for s in (1, -1)
    )
    numeric = np.sum(v * (plus - minus)) / (2 * step)
    # Differences in float32 have two digits; a rule that reads another meaning has none.
    assert sum(np.sum(g * u[n]) for n, g in zip(wrt, grads, strict=True)) == pytest.approx(numeric, rel=2e-2, abs=1e-2)


OLD = [pytest.param(s, opset, id=f"{s} at {opset}") for s in SPELLINGS for opset in s.opsets()]


@pytest.mark.parametrize(("spelling", "opset"), OLD)
def test_spelling_of_an_opset_keeps_its_meaning(spelling: Spelling, opset, rng):
    model = spelling.model(opset)
    feeds = {
        v.name: spelling.feeds.get(
            v.name, rng.standard_normal([d.dim_value or 3 for d in v.type.tensor_type.shape.dim])
        )
        for v in model.graph.input
    }
    compare(model, feeds, float_names(feeds), rng)


# What ONNX Runtime cannot run: it has no kernel; or Sum, which the case adds outputs up with, did not broadcast yet.
NOT_RUN = {
    (op_type, opset) for op_type in ("GlobalLpPool", "MaxRoiPool", "RoiAlign", "Swish") for opset in (22, 24, 26)
}
NOT_RUN |= {(op_type, 7) for op_type in ("RNN", "GRU", "LSTM")}
# Drawn at random.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"}


def one_case_of_each_operator() -> list:
    """Return (case, opset) for the first case of each operator, at every opset that changes the operator.

    Where an opset writes it otherwise, which the checker tells, `SPELLINGS` has it.
    """
    cases = [case for family in FAMILIES for case in import_module(f"autodiff.cases.{family}").CASES]
    firsts = {c.op_type: c for c in reversed(cases) if "ort" in c.runtimes and c.op_type not in RANDOM}
    found = []
    for op_type, case in sorted((k, c) for k, c in firsts.items() if onnx.defs.has(k, "")):
        since = next(v for v in range(FIRST_OPSET, LAST_OPSET + 1) if onnx.defs.has(op_type, v, ""))
        for opset in sorted({*first_of_each_version([op_type], since, LAST_OPSET), LAST_OPSET} - {case.opset}):
            if (op_type, opset) not in NOT_RUN and is_valid(case, opset):
                found.append(pytest.param(case, opset, id=f"{op_type} at {opset}"))
    return found


def is_valid(case: Case, opset: int) -> bool:
    try:
        onnx.checker.check_model(parse(case.text.replace("double", "float"), opset), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


@pytest.mark.parametrize(("case", "opset"), one_case_of_each_operator())
def test_case_has_one_gradient_at_every_opset_that_reads_it_alike(case: Case, opset, rng):
    here, there = parse(case.text.replace("double", "float"), opset), case.model(double=False)
    feeds, y = random_feeds(case, rng), here.graph.output[0].name
    wrt = case.wrt or tuple(float_names(feeds))
    given, elsewhere = (run(model, feeds, [y], "ort")[0] for model in (here, there))
    canonical = run(ir.to_proto(canonicalise(ir.from_proto(here))), feeds, [y], "ort")[0]
    np.testing.assert_allclose(canonical, given, rtol=1e-6, atol=1e-6)
    seeded = feeds | {f"cotangent_{y}": rng.standard_normal(given.shape)}
    found, expected = (
        run(ir.to_proto(vjp(model, of=y, wrt=wrt)), seeded, [f"grad_{n}" for n in wrt], "ort")
        for model in (here, there)
    )
    if given.shape == elsewhere.shape and np.allclose(given, elsewhere, rtol=1e-5, atol=1e-6):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


MISJUDGED = {
    "a slice that has fewer entries than its input, where no size is known": (
        "(float[n,2,h,w] x) => (float[a,b,c,d] y) <int64[2] s = {1,0}, int64[2] e = {9,-1}, int64[2] k = {2,3}, "
        "float[2] g = {1,2}> { i = InstanceNormalization(x, g, g)  t = Slice(i, s, e, k)  y = Mul(t, t) }"
    ),
    "a softmax behind a convolution whose padding makes another size than ONNX says": (
        "(float[2,4,3,3] x) => (float[a,b,c,d] y) <float[4,1,1,2] w = {1,-2,3,1,1,0.5,2,1}> { t = ConvTranspose"
        '<auto_pad="SAME_UPPER",output_padding=[1,1],strides=[2,2]>(x, w)  y = Softmax<axis=2>(t) }'
    ),
}


@pytest.mark.parametrize("name", MISJUDGED)
def test_what_onnx_infers_wrongly_does_not_last(name, rng):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 10]> g {MISJUDGED[name]}')
    model.graph.output[0].type.tensor_type.ClearField("shape")
    shape = [d.dim_value or 5 for d in model.graph.input[0].type.tensor_type.shape.dim]
    compare(model, {"x": rng.standard_normal(shape)}, ["x"], rng)
