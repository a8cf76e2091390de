"""Unknown sizes keep their name wherever they surely are the same."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest

from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.contents import product, quotient
from onnxsal.graph.shapes import Shapes
from onnxsal.graph.types import dims


def canonical(text: str) -> ir.Model:
    return canonicalise(ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')))


def shape(model: ir.Model, name: str) -> tuple:
    return next(dims(v) for node in model.graph for v in node.outputs if v.name == name)


def test_reshape_to_tokens_and_back_keeps_the_batch():
    text = (
        "(float[batch,8,4,4] x) => (float[o,p,q] y) <int64[3] s = {-1,8,16}, int64[4] t = {-1,4,2,16}> "
        "{ a = Reshape(x, s)  b = Transpose<perm=[0,2,1]>(a)  c = Reshape(a, t)  d = Relu(c)  y = Abs(b) }"
    )
    model = canonical(text)
    assert shape(model, "a") == ("batch", 8, 16)
    assert shape(model, "d") == ("batch", 4, 2, 16)


def test_windows_are_a_multiple_of_the_batch_and_fold_back():
    text = (
        "(float[batch,28,8] x) => (float[o,p,q] y) <int64[3] s = {-1,7,8}, int64[3] t = {-1,28,8}> "
        "{ a = Reshape(x, s)  b = Relu(a)  c = Reshape(b, t)  y = Add(c, x) }"
    )
    model = canonical(text)
    assert shape(model, "b") == ("4*batch", 7, 8)
    assert shape(model, "c") == ("batch", 28, 8)


def test_sizes_taken_from_a_shape_become_constants():
    text = """(float[batch,6,h,w] x) => (float[o,p,q,r] y)
        <int64 one = {1}, int64 two = {2}, int64[1] zero = {0}, int64[1] axis = {1}> {
        s = Shape(x)  c = Gather(s, one)  half = Div(c, two)  end = Unsqueeze(half, zero)
        a = Slice(x, zero, end, axis)  y = Relu(a) }"""
    model = canonical(text)
    assert [n.op_type for n in model.graph] == ["Slice", "Relu"]
    assert shape(model, "a") == ("batch", 3, "h", "w")
    ends = model.graph[0].inputs[2].const_value
    assert ends.numpy().tolist() == [3]


def test_shapes_put_together_from_sizes_are_read():
    text = """(float[batch,6,h] x) => (float[o,p] y)
        <int64 none = {0}, int64[1] zero = {0}, int64[1] rest = {-1}, float[1,1] token = {1}> {
        s = Shape(x)  n = Gather(s, none)  m = Unsqueeze(n, zero)  t = Concat<axis=0>(m, rest)
        a = Reshape(x, t)  two = Constant<value_ints=[4]>()  e = Concat<axis=0>(m, two)  b = Expand(token, e)
        y = Concat<axis=1>(a, b) }"""
    model = canonical(text)
    assert shape(model, "a")[0] == "batch"
    assert shape(model, "b") == ("batch", 4)


@pytest.mark.parametrize("norm", ["GroupNormalization<num_groups=2>(a, s, s)", "MeanVarianceNormalization(a)"])
def test_what_onnx_infers_no_shape_for_keeps_its_inputs(norm):
    # A Reshape whose sizes are only followed here stands before the first of two.
    text = (
        "(float[batch,32] x, float[4] s) => (float[o,p,q,r] y) <int64[4] t = {-1,4,2,4}> "
        f"{{ a = Reshape(x, t)  b = {norm}  c = Relu(b)  d = {norm.replace('(a', '(c')}  y = Relu(d) }}"
    )
    model = canonical(text)
    assert shape(model, "c") == shape(model, "d") == ("batch", 4, 2, 4)
    found = Shapes(model, {"x": (3, 32), "s": (4,)}, declared=False).walk()
    assert found.shape(model.graph.outputs[0]) == (3, 4, 2, 4)


def test_minus_one_is_recognised_also_where_an_exporter_compares_with_it():
    text = """(float[batch,6] x) => (float[o,p,q] y)
        <int64 none = {0}, int64[1] zero = {0}, int64[2] rest = {-1,-1}, int64[3] minus = {-1,-1,-1},
         int64[3] ones = {1,1,1}, float[1,1,5] token = {1,2,3,4,5}> {
        s = Shape(x)  n = Gather(s, none)  m = Unsqueeze(n, zero)  t = Concat<axis=0>(m, rest)
        u = Equal(t, minus)  w = Where(u, ones, t)  e = Expand(token, w)  y = Relu(e) }"""
    assert shape(canonical(text), "e") == ("batch", 1, 5)


def test_what_may_differ_keeps_different_names():
    text = (
        "(float[n,m] x, float[p,q] z) => (float[a,b] y) <int64[2] s = {-1,4}> "
        "{ r = Reshape(x, s)  t = Reshape(z, s)  y = Add(r, t) }"
    )
    model = canonical(text)
    assert shape(model, "r")[0] != shape(model, "t")[0]


def test_declared_outputs_stay_as_declared():
    model = canonical("(float[batch,6] x) => (float[other,3,2] y) <int64[3] s = {-1,3,2}> { y = Reshape(x, s) }")
    assert shape(model, "y") == ("other", 3, 2)


def test_floats_that_nobody_reads_stay():
    model = canonical("(float[n,6] x) => (float[n,6] y) { aside = Relu(x)  s = Shape(aside)  y = Abs(x) }")
    assert [n.op_type for n in model.graph] == ["Relu", "Abs"]


@pytest.mark.parametrize(
    ("sizes", "by", "expected"),
    [
        (["n", 4, 3], [12], "n"),
        (["n", 4, 3], [6], "2*n"),
        (["4*n", 3], [12], "n"),
        (["n", 4], ["n"], 4),
        (["n", "m"], ["m"], "n"),
        (["n", "m"], [], None),
        (["n", 3], [2], None),
        ([None, 3], [3], None),
        ([6, 2], [3], 4),
        ([0, "n"], [4], None),
        (["n"], ["m"], None),
    ],
)
def test_products_of_sizes_divide(sizes, by, expected):
    assert quotient(sizes, by) == expected
    if not by:
        assert product(sizes) == expected


def test_computed_sizes_keep_the_model_true(rng):
    text = """(float[batch,6,4] x) => (float[o,p] y) <int64 one = {1}, int64[1] zero = {0}> {
        s = Shape(x)  c = Gather(s, one)  d = Mul(c, c)  e = Unsqueeze(d, zero)
        minus = Constant<value_ints=[-1]>()  t = Concat<axis=0>(minus, e)  y = Reshape(x, t) }"""
    x = rng.standard_normal((3, 6, 4)).astype(np.float32)
    proto = ir.to_proto(canonical(text))
    (found,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(found, x.reshape(-1, 36))


def test_largest_and_smallest_of_any_number_of_sizes_are_read():
    text = """(float[batch,6,h] x) => (float[o,p] y) <int64[1] two = {2}, int64[1] nine = {9}, int64[1] axis = {1}> {
        s = Shape<start=1,end=2>(x)  m = Max(s)  k = Min(m, two, nine)  t = Concat<axis=0>(k, nine)
        a = ConstantOfShape(t)  y = Relu(a) }"""
    assert shape(canonical(text), "y") == (2, 9)


def test_shapes_behind_a_sequence_are_found():
    text = """(float[batch,6] x, int64 place) => (float[o,p] y) {
        s = SequenceConstruct(x, x)  t = SequenceInsert(s, x)  a = SequenceAt(t, place)  y = Relu(a) }"""
    model = canonical(text)
    found = Shapes(model, {"x": (3, 6), "place": ()}, declared=False).walk()
    assert {v.name: found.shape(v) for node in model.graph for v in node.outputs}["y"] == (3, 6)
