"""An If whose condition is known becomes the branch that is taken."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.types import dims

X = np.arange(6, dtype=np.float32).reshape(1, 2, 3)


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')


def check(model: onnx.ModelProto) -> ir.Model:
    """Return the model in canonical form, which gives what the model gives."""
    result = canonicalise(ir.from_proto(model))
    onnx.checker.check_model(ir.to_proto(result), full_check=True)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": X})
    found = onnx.reference.ReferenceEvaluator(ir.to_proto(result)).run(None, {"x": X})
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)
    return result


@pytest.mark.parametrize(("condition", "rank"), [(1, 2), (0, 3)])
def test_branch_of_a_constant_condition_tells_the_rank(condition, rank):
    text = f"""(float[n,2,3] x) => (float[m] y) <bool c = {{{condition}}}, int64[1] zero = {{0}}, int64[1] all = {{-1}}>
        {{
        a = If(c) <then_branch = t () => (float[2,3] p) {{ p = Squeeze(x, zero) }},
                   else_branch = e () => (float[n,2,3] q) {{ q = Neg(x) }}>
        b = Relu(a)  y = Reshape(b, all) }}"""
    result = check(parse(text))
    ranks = {v.name: len(dims(v)) for node in result.graph for v in node.outputs}
    assert ranks["a"] == ranks["b"] == rank


def test_condition_computed_from_known_sizes_is_known():
    text = """(float[n,2,3] x) => (float[a,b,c] y) <int64 axis = {1}, int64 one = {1}> {
        s = Shape(x)  n = Gather(s, axis)  single = Equal(n, one)
        y = If(single) <then_branch = t () => (float[a,b,c] p) { p = Neg(x) },
                        else_branch = e () => (float[a,b,c] q) { q = Relu(x) }> }"""
    assert "If" not in {n.op_type for n in check(parse(text)).graph}


def test_branches_within_branches_that_use_the_same_names_stay_apart():
    branch = "<float[1] w = {2}> { h = Mul(x, w)  %s = Add(h, w) }"
    text = f"""(float[n,2,3] x) => (float[n,2,3] y, float[n,2,3] z) <bool yes = {{1}}, bool no = {{0}}> {{
        y = If(yes) <then_branch = t () => (float[n,2,3] p) {branch % "p"},
                     else_branch = e () => (float[n,2,3] q) {{ q = Neg(x) }}>
        z = If(no) <then_branch = t () => (float[n,2,3] p) {{ p = Neg(x) }},
                    else_branch = e () => (float[n,2,3] q) {{
            q = If(yes) <then_branch = u () => (float[n,2,3] p) {branch % "p"},
                         else_branch = v () => (float[n,2,3] r) {{ r = Neg(x) }}> }}> }}"""
    assert {n.op_type for n in check(parse(text)).graph} == {"Mul", "Add", "Identity"}


def test_branch_that_hands_on_an_outer_value_is_that_value():
    text = """(float[n,2,3] x) => (float[n,2,3] y) <bool c = {1}> { h = Abs(x)
        y = If(c) <then_branch = t () => (float[n,2,3] p) { p = Identity(h) },
                   else_branch = e () => (float[n,2,3] q) { q = Neg(x) }> }"""
    check(parse(text))


def test_condition_known_at_run_time_only_stays():
    text = """(float[n,2,3] x) => (float[n,2,3] y) <float zero = {0}> {
        s = ReduceSum<keepdims=0>(x)  c = Greater(s, zero)
        y = If(c) <then_branch = t () => (float[n,2,3] p) { p = Neg(x) },
                   else_branch = e () => (float[n,2,3] q) { q = Abs(x) }> }"""
    assert "If" in {n.op_type for n in check(parse(text)).graph}
