"""Gradients through sequences of tensors in control flow."""

import numpy as np
import pytest
from support.control import agrees, gradient_model, model, normal, run

LISTS = {
    "a list that a loop fills": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) { e = SequenceEmpty<dtype=11>() "
        "q = Loop <body = b (int64 i, bool k, seq(double[2]) a) => (bool k2, seq(double[2]) d) "
        "{ k2 = Identity(k)  r = Gather(x, i)  s = Mul(r, w)  t = Sin(s)  d = SequenceInsert(a, t) }> "
        '(n, "", e)  y = ConcatFromSequence<axis=0, new_axis=1>(q) }'
    ),
    "a list that a loop fills twice per turn, and an operator behind it that asks for the rank": (
        "(double[5,2] x, double[2] w, int64 n) => (double[2] y) <int64[1] axis = {0}> { e = SequenceEmpty<dtype=11>() "
        "q = Loop <body = b (int64 i, bool k, seq(double) a) => (bool k2, seq(double) d) "
        "{ k2 = Identity(k)  r = Gather(x, i)  s = Mul(r, w)  t = Sin(s)  c = SequenceInsert(a, t) "
        "d = SequenceInsert(c, s) }> "
        '(n, "", e)  z = ConcatFromSequence<axis=0, new_axis=1>(q)  y = ReduceMean<keepdims=0>(z, axis) }'
    ),
    "a list that a loop empties": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) <int64 zero = {0}, double[1,2] z = {1, 2}> { "
        "l = SplitToSequence<axis=0>(x)  q, h = Loop "
        "<body = b (int64 i, bool k, seq(double[p,2]) a, double[1,2] c) => "
        "(bool k2, seq(double[p,2]) d, double[1,2] f) { k2 = Identity(k)  r = SequenceAt(a, zero)  s = Mul(r, w) "
        "t = Sin(s)  f = Mul(t, c)  d = SequenceErase(a, zero) }> "
        '(n, "", l, z)  u = ConcatFromSequence<axis=0>(q)  y = Concat<axis=0>(u, h) }'
    ),
    "a list that turns read where they have written": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) <int64 last = {-1}> { "
        "g = ReduceSum<keepdims=0>(x)  h = Mul(g, w)  l = SequenceConstruct(h) "
        "q = Loop <body = b (int64 i, bool k, seq(double[2]) a) => (bool k2, seq(double[2]) d) "
        "{ k2 = Identity(k)  r = SequenceAt(a, last)  s = Mul(r, w)  t = Sin(s)  d = SequenceInsert(a, t) }> "
        '(n, "", l)  y = ConcatFromSequence<axis=0, new_axis=1>(q) }'
    ),
    "a list that turns read around them": (
        "(double[5,2] x, double[2] w, int64 n) => (double[1,2] y) <double[1,2] z = {1, 2}> { "
        "l = SplitToSequence<axis=0>(x)  y = Loop <body = b (int64 i, bool k, double[1,2] a) => "
        "(bool k2, double[1,2] d) { k2 = Identity(k)  r = SequenceAt(l, i)  s = Mul(r, w) "
        "t = Mul(s, a)  d = Add(t, r) }> "
        '(n, "", z) }'
    ),
    "a map over two lists and a tensor": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) { l = SplitToSequence<axis=0>(x) "
        "m = SequenceErase(l)  v = SequenceErase(l, n) "
        "q = SequenceMap <body = b (double[1,2] a, double[1,2] c, double[2] e) => (double[1,2] d) "
        "{ s = Mul(a, e)  t = Sin(s)  d = Mul(t, c) }> (m, v, w)  y = ConcatFromSequence<axis=0>(q) }"
    ),
    "a map over entries of several sizes": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) "
        "<int64[4] sizes = {1, 1, 1, 2}, int64 one = {1}, int64 two = {2}> { "
        "l = SplitToSequence<axis=0>(x, sizes)  c = SequenceErase(l, n)  "
        "q = SequenceMap <body = b (double[p,2] a, double[2] e) => (double[p,2] d) { s = Mul(a, e)  d = Sin(s) }> "
        "(c, w)  u = SequenceAt(q, two)  v = SequenceAt(q, one)  t = ReduceSum<keepdims=1>(v)  y = Mul(u, t) }"
    ),
    "lists from branches": (
        "(double[5,2] x, double[2] w, int64 n) => (double[p,2] y) <int64 two = {2}> { c = Less(n, two) "
        "q = If(c) <then_branch = t () => (seq(double[p,2]) p) { p = SequenceConstruct(x, x) }, "
        "else_branch = e () => (seq(double[p,2]) r) { s = Mul(x, w)  r = SplitToSequence<axis=0>(s) }> "
        "v = SequenceAt(q, n)  y = Mul(v, w) }"
    ),
}


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_lists_send_the_gradient_to_their_entries(text, turns, rng):
    agrees(text, rng, x=normal(5, 2), w=1 - normal(2) / 2, n=np.array(turns))


def test_list_that_no_turn_fills_has_no_gradient():
    text = LISTS["a list that turns read around them"]
    feeds = {"x": normal(5, 2), "w": normal(2), "n": np.array(0), "cotangent_y": normal(1, 2)}
    found = run(gradient_model(model(text), "y", ["x", "w"]), feeds)
    np.testing.assert_array_equal(found["grad_x"], np.zeros((5, 2)))
    np.testing.assert_array_equal(found["grad_w"], np.zeros(2))


def test_lists_at_constant_places_cost_no_sequence():
    text = (
        "(float[2,3] x, float[2,3] z) => (float[n,3] y) <int64 one = {1}, int64 zero = {0}> { "
        "q = SequenceConstruct(x, z)  r = SequenceInsert(q, z, zero)  s = SequenceErase(r, one) "
        "a = SequenceAt(s, one)  l = SequenceLength(s)  f = Cast<to=1>(l)  b = Mul(a, f)  t = SequenceInsert(s, b) "
        "y = ConcatFromSequence<axis=0>(t) }"
    )
    proto = gradient_model(model(text), "y", ["x", "z"])
    assert not [n.op_type for n in proto.graph.node if "Sequence" in n.op_type]
    feeds = {name: normal(2, 3).astype(np.float32) for name in "xz"}
    feeds["cotangent_y"] = normal(6, 3).astype(np.float32)
    found = run(proto, feeds)
    parts = feeds["cotangent_y"].reshape(3, 2, 3)
    # z stands twice before its double.
    np.testing.assert_allclose(found["grad_z"], parts[0] + parts[1] + 2 * parts[2], rtol=1e-5)
    np.testing.assert_array_equal(found["grad_x"], np.zeros((2, 3)))
