"""Sequences that only part a tensor become Split."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise

CASES = [
    ("float[n,6] x", "<int64 s = {2}, int64 i = {1}, int64 j = {-1}>", "SplitToSequence<axis=1>(x, s)"),
    ("float[n,7] x", "<int64 s = {3}, int64 i = {0}, int64 j = {2}>", "SplitToSequence<axis=-1>(x, s)"),
    ("float[n,6] x", "<int64[3] s = {1,2,3}, int64 i = {1}, int64 j = {1}>", "SplitToSequence<axis=1>(x, s)"),
    ("float[3,n] x", "<int64 i = {0}, int64 j = {2}>", "SplitToSequence<axis=0>(x)"),
    ("float[3,n] x", "<int64 i = {0}, int64 j = {2}>", "SplitToSequence<axis=0,keepdims=0>(x)"),
]


@pytest.mark.parametrize(("declared", "constants", "node"), CASES)
def test_parts_at_constant_places_are_those_of_a_split(declared, constants, node, rng):
    body = f"q = {node}  a = SequenceAt(q, i)  y = Neg(a)  b = SequenceAt(q, j)"
    text = f"({declared}) => (float y, float b) {constants} {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    x = rng.standard_normal((3, 7 if "7" in declared else 6)).astype(np.float32)
    result = ir.to_proto(canonicalise(ir.from_proto(model)))
    assert not {n.op_type for n in result.graph.node} & {"SplitToSequence", "SequenceAt"}
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    for found, wanted in zip(onnx.reference.ReferenceEvaluator(result).run(None, {"x": x}), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert {"a", "b"} <= {v for n in result.graph.node for v in n.output}


def test_sequence_that_is_read_at_a_place_given_at_run_time_stays():
    text = (
        "(float[n,6] x, int64 i) => (float[a,b] y) <int64 s = {2}> { q = SplitToSequence(x, s)  y = SequenceAt(q, i) }"
    )
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    assert [n.op_type for n in canonicalise(ir.from_proto(model)).graph] == ["SplitToSequence", "SequenceAt"]


def canonical(text):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    return model, ir.to_proto(canonicalise(ir.from_proto(model)))


def test_split_is_written_once_where_one_reader_knows_its_place_and_another_does_not():
    text = (
        "(float[n,6] x, int64 i) => (float[a,b] y, float[c,d] z) <int64 s = {2}, int64 one = {1}> "
        "{ q = SplitToSequence<axis=1>(x, s)  y = SequenceAt(q, one)  r = SequenceErase(q, one)  z = SequenceAt(r, i) }"
    )
    _, proto = canonical(text)
    assert [n.op_type for n in proto.graph.node].count("Split") == 1
    assert [n.op_type for n in proto.graph.node].count("SplitToSequence") == 1


def test_map_over_a_sequence_is_a_loop(rng):
    text = (
        "(seq(float[2]) s, float[2] w) => (seq(float[2]) y) "
        "{ y = SequenceMap <body = b (float[2] a, float[2] c) => (float[2] d) { d = Mul(a, c) }> (s, w) }"
    )
    _, proto = canonical(text)
    assert [n.op_type for n in proto.graph.node] == ["SequenceLength", "SequenceEmpty", "Loop"]
    feeds = {"s": list(rng.standard_normal((3, 2)).astype(np.float32)), "w": np.array([1, 2], np.float32)}
    # ONNX's evaluator takes a condition that is left out for false.
    (found,) = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)
    np.testing.assert_array_equal(found, [a * feeds["w"] for a in feeds["s"]])


def test_optional_value_that_surely_holds_something_is_what_it_holds():
    text = (
        "(float[2] x) => (float[2] y) { o = Optional(x)  h = OptionalHasElement(o)  "
        "y = If(h) <then_branch = t () => (float[2] p) { e = OptionalGetElement(o)  p = Neg(e) }, "
        "else_branch = f () => (float[2] q) { q = Abs(x) }> }"
    )
    _, proto = canonical(text)
    assert not {n.op_type for n in proto.graph.node} & {"If", "OptionalHasElement", "OptionalGetElement", "Abs"}


def test_optional_value_that_holds_nothing_is_known_to():
    text = (
        "(float[2] x) => (float[2] y) { h = OptionalHasElement()  "
        "y = If(h) <then_branch = t () => (float[2] p) { p = Neg(x) }, "
        "else_branch = f () => (float[2] q) { q = Abs(x) }> }"
    )
    _, proto = canonical(text)
    assert {n.op_type for n in proto.graph.node} == {"Abs", "Identity"}
