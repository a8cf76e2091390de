"""Sequences that only part a tensor become Split."""

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
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
