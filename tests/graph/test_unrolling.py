"""A Loop that fills a list a known number of times is written out."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.types import dims

X = np.arange(14, dtype=np.float32).reshape(2, 7)


def parts(count: str, again: str = "again = Identity(c)") -> onnx.ModelProto:
    """Return a model that parts x at 2 and at 5 within a Loop, and reads the middle part."""
    text = """(float[n,7] x, int64[1] m) => (float[n,k] y)
      <int64[3] at = {0,2,5}, int64[1] axis = {1}, int64 one = {1}, int64[1] two = {2}, bool yes = {1},
       int64[1] last = {99}, int64[1] five = {5}> {
      none = SequenceEmpty<dtype=1>()
      list = Loop(COUNT, yes, none) <body = b (int64[1] i, bool c, seq(float[n,k]) l)
          => (bool again, seq(float[n,k]) more) {
        AGAIN
        begin = Gather(at, i) next = Add(i, one) end = Gather(at, next)
        part = Slice(x, begin, end, axis) more = SequenceInsert(l, part) }>
      rest = Slice(x, five, last, axis) whole = SequenceInsert(list, rest)
      middle = SequenceAt(whole, one) y = Neg(middle) }"""
    text = text.replace("COUNT", count).replace("AGAIN", again)
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> g {text}')


def run(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": X, "m": np.array([2])})[0]


def test_parts_that_a_loop_puts_in_a_list_are_read_as_what_they_are():
    result = canonicalise(ir.from_proto(parts("two")))
    assert not {n.op_type for n in result.graph} & {"Loop", "SequenceAt"}
    assert {v.name: dims(v) for n in result.graph for v in n.outputs}["middle"] == ("n", 3)
    np.testing.assert_array_equal(run(ir.to_proto(result)), -X[:, 2:5])


@pytest.mark.parametrize(
    ("count", "again"),
    [("m", "again = Identity(c)"), ("two", "q = Equal(m, two) again = And(c, q)")],
    ids=["count", "condition"],
)
def test_a_loop_of_which_only_the_run_knows_how_often_it_turns_stays(count, again):
    model = parts(count, again)
    result = canonicalise(ir.from_proto(model))
    assert "Loop" in {n.op_type for n in result.graph}
    np.testing.assert_array_equal(run(ir.to_proto(result)), run(model))
