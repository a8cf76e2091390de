import onnx
import onnx_ir as ir
import pytest

from onnxsal.graph.canonical import canonicalise


def canonical(text: str) -> ir.Graph:
    return canonicalise(
        ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}'))
    ).graph


@pytest.mark.parametrize("dtype", ["float", "double", "int8"])
def test_a_chain_of_constants_becomes_its_last_value(dtype):
    graph = canonical(
        f"({dtype}[3] x) => (y) <{dtype}[3] c = {{1, 2, 3}}> {{ a = Mul(c, c) b = Neg(a) y = Add(x, b) }}"
    )
    assert [n.op_type for n in graph] == ["Add"]
    assert graph.initializers["b"].const_value.numpy().tolist() == [-1, -4, -9]


def test_shape_arithmetic_is_done_in_one_go_though_each_step_needs_the_one_before():
    graph = canonical(
        """(float[N,8,4,4] x) => (y) <int64[1] one = {1}, int64[1] two = {2}, int64[1] rest = {-1}> {
            s = Shape(x) c = Gather<axis=0>(s, one) h = Div(c, two) z = ConstantOfShape(h) k = Shape(z)
            t = Concat<axis=0>(rest, k, two) y = Reshape(x, t) }"""
    )
    assert [n.op_type for n in graph] == ["Reshape"]
    assert graph.initializers["t"].const_value.numpy().tolist() == [-1, 4, 2]


def test_a_few_numbers_that_ask_for_a_large_fill_stay_a_node():
    graph = canonical(
        "(float[40000,40000] x) => (y) <int64[2] s = {40000, 40000}> { z = ConstantOfShape(s) y = Add(x, z) }"
    )
    assert [n.op_type for n in graph] == ["ConstantOfShape", "Add"]


def test_integers_that_only_served_to_fold_others_are_dropped():
    graph = canonical("(float[2,6] x) => (y) <int64[2] s = {3, 2}> { t = Add(s, s) u = Sub(t, s) y = Reshape(x, u) }")
    assert set(graph.initializers) & {"t", "u"} == {"u"}
