"""Shapes within the bodies of control flow, and behind them."""

import onnx
import onnx_ir as ir

from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.scopes import bodies
from onnxsal.graph.types import dims


def shapes(text: str) -> dict:
    model = canonicalise(ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')))
    graphs = [model.graph, *bodies(model.graph)]
    return {v.name: dims(v) for g in graphs for v in [*g.inputs, *(v for n in g for v in n.outputs)]}


def test_state_that_keeps_its_shape_has_it_in_every_turn_and_behind_the_loop():
    found = shapes(
        "(float[batch,6] x, int64 n) => (float y) { z, s = Loop <body = b (int64 i, bool k, float a) => "
        "(bool k2, float d, float e) { k2 = Identity(k)  t = Transpose<perm=[1,0]>(a)  d = Transpose<perm=[1,0]>(t) "
        'e = Sin(t) }> (n, "", x)  y = Neg(z) }'
    )
    assert found["a"] == found["d"] == found["z"] == ("batch", 6)
    assert found["t"] == (6, "batch")
    assert found["s"] == (None, 6, "batch")


def test_sizes_that_a_turn_changes_are_given_up_and_no_others():
    found = shapes(
        "(float[batch,6] x, int64 n) => (float y) { z = Loop <body = b (int64 i, bool k, float a) => "
        '(bool k2, float d) { k2 = Identity(k)  d = Concat<axis=0>(a, a) }> (n, "", x)  y = Neg(z) }'
    )
    assert found["a"] == found["z"] == (None, 6)


def test_states_that_change_places_agree_on_what_they_share():
    found = shapes(
        "(float[batch,6] x, float[4,6] w, int64 n) => (float y) { u, v = Loop <body = b (int64 i, bool k, float a, "
        'float c) => (bool k2, float d, float e) { k2 = Identity(k)  d = Sin(c)  e = Cos(a) }> (n, "", x, w) '
        "y = Concat<axis=0>(u, v) }"
    )
    assert found["a"] == found["c"] == found["u"] == found["v"] == (None, 6)


def test_loop_within_a_loop_is_followed():
    found = shapes(
        "(float[batch,6] x, int64 n) => (float y) { z = Loop <body = b (int64 i, bool k, float a) "
        "=> (bool k2, float d) { k2 = Identity(k)  h = Loop <body = c (int64 j, bool l, float p) => (bool l2, float q) "
        '{ l2 = Identity(l)  q = Sin(p) }> (i, "", a)  d = Concat<axis=1>(h, h) }> (n, "", x)  y = Neg(z) }'
    )
    assert found["p"] == found["h"] == found["a"] == ("batch", None)


def test_slices_that_a_scan_reads_and_writes_have_a_shape():
    found = shapes(
        "(float[3] x, float[3,t,batch] s) => (float y, float z) { y, z = Scan <num_scan_inputs=1, scan_input_axes=[1], "
        "scan_output_axes=[1], body = b (float a, float c) => (float d, float e) { d = Sin(a)  e = Cos(c) }> (x, s) }"
    )
    assert found["a"] == (3,)
    assert found["c"] == found["e"] == (3, "batch")


def test_constants_of_bodies_stand_in_the_main_graph_under_names_of_their_own():
    text = (
        "(float[2] x, bool c) => (float[2] y) { y = If(c) <"
        "then_branch = t () => (float[2] p) { k = Constant<value_float=2.0>()  p = Mul(x, k) }, "
        "else_branch = e () => (float[2] p) { k = Constant<value_float=3.0>()  p = Mul(x, k) }> }"
    )
    source = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    model = canonicalise(ir.from_proto(source))
    assert sorted(float(v.const_value.numpy()) for v in model.graph.initializers.values()) == [2, 3]
    assert [len(g.initializers) for g in bodies(model.graph)] == [0, 0]
    made = [v.name for g in bodies(model.graph) for n in g for v in n.outputs]
    assert len(set(made)) == len(made)
