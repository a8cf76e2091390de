"""Gradients through If, Loop and Scan."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from support.control import agrees, directional, gradient_model, model, normal, run, session

from onnxsal.autodiff import STANDARD
from onnxsal.errors import UnsupportedModel

# ----- If -----

BRANCHES = {
    "both branches read captured values": (
        "(double[2] x, double[2] w, bool c) => (double[2] y) { a = Mul(x, w) "
        "y = If(c) <then_branch = t () => (double[2] p) { p = Mul(a, x) }, "
        "else_branch = e () => (double[2] q) { q = Sin(x) }> }"
    ),
    "two outputs, names shared by the branches, one output unread": (
        "(double[2] x, double[2] w, bool c) => (double[2] y) { "
        "y, z = If(c) <then_branch = t () => (double[2] p, double[2] q) { p = Mul(w, x)  q = Neg(p) }, "
        "else_branch = e () => (double[2] p, double[2] q) { q = Sin(x)  p = Mul(q, x) }> }"
    ),
    "a branch that is constant, and one that hands a value on": (
        "(double[2] x, double[2] w, bool c) => (double[2] y) <double[2] k = {1, 2}> { "
        "z = If(c) <then_branch = t () => (double[2] p) { p = Identity(k) }, "
        "else_branch = e () => (double[2] q) { q = Identity(x) }>  y = Mul(z, w) }"
    ),
    "branches of different shapes": (
        "(double[n,2] x, double[2] w, bool c) => (double[a,b] y) { "
        "y = If(c) <then_branch = t () => (double[p,q] p) { p = Concat<axis=0>(x, x) }, "
        "else_branch = e () => (double[r,s] q) { q = Mul(x, w) }> }"
    ),
    "an If within an If": (
        "(double[2] x, double[2] w, bool c) => (double[2] y) { a = Mul(x, w) "
        "y = If(c) <then_branch = t () => (double[2] p) { b = Sin(a)  d = Not(c) "
        "p = If(d) <then_branch = tt () => (double[2] pp) { pp = Mul(a, b) }, "
        "else_branch = ee () => (double[2] qq) { r = Mul(b, x)  qq = Mul(r, b) }> }, "
        "else_branch = e () => (double[2] q) { q = Sin(x) }> }"
    ),
    "the condition depends on what is differentiated": (
        "(double[2] x, double[2] w, bool c) => (double[2] y) { "
        "s = ReduceSum<keepdims=0>(x)  t = ReduceSum<keepdims=0>(w)  g = Less(s, t)  d = Xor(g, c) "
        "y = If(d) <then_branch = t () => (double[2] p) { p = Mul(w, x) }, "
        "else_branch = e () => (double[2] q) { q = Sin(x) }> }"
    ),
}


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("text", BRANCHES.values(), ids=BRANCHES)
def test_if_sends_the_gradient_through_the_branch_that_was_taken(text, condition, rng):
    shape = (3, 2) if "double[n,2] x" in text else (2,)
    agrees(text, rng, x=normal(*shape), w=1 - normal(2) / 2, c=np.array(condition))


@pytest.mark.parametrize("condition", [0, 1])
def test_if_whose_condition_is_constant_is_its_branch(condition):
    text = (
        f"(float[2] x) => (float[2] y) <bool c = {{{condition}}}> {{ "
        "z = If(c) <then_branch = t () => (float[2] p) { p = Mul(x, x) }, "
        "else_branch = e () => (float[2] q) { q = custom.Unknown(x) }>  y = Neg(z) }"
    ).replace("custom.Unknown(x)", "Add(x, x)")
    proto = gradient_model(model(text), "y", ["x"])
    assert "If" not in {n.op_type for n in proto.graph.node}
    assert "z" in {v for n in proto.graph.node for v in n.output}
    x = np.array([2, 3], np.float32)
    found = run(proto, {"x": x, "cotangent_y": np.ones(2, np.float32)})
    assert_allclose(found["grad_x"], -2 * x if condition else np.full(2, -2, np.float32))


# ----- Loop -----

TURN = (
    "<body = b (int64 i, bool k, double[2] a) => (bool going, double[2] d, double[2] e) "
    "{ going = Identity(k)  p = Mul(a, w)  d = Sin(p)  e = Mul(a, a) }>"
)
LOOPS = {
    "state, stacked output, captured value": (
        f'(double[2] x, double[2] w, int64 n) => (double[2] y, double[t,2] z) {{ y, z = Loop {TURN} (n, "", x) }}'
    ),
    "a condition that is given, no stacked output": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) <bool c = {1}> { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        "{ k2 = Identity(k)  p = Mul(a, w)  d = Sin(p) }> (n, c, x) }"
    ),
    "two states that change places, one captured twice": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) { u, v = Loop "
        "<body = b (int64 i, bool k, double[2] a, double[2] b) => (bool k2, double[2] d, double[2] e) "
        '{ k2 = Identity(k)  d = Sin(b)  r = Mul(a, w)  e = Add(r, x) }> (n, "", x, w)  y = Sub(u, v) }'
    ),
    "the number of the turn": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        '{ k2 = Identity(k)  f = Cast<to=11>(i)  p = Mul(a, w)  q = Mul(p, f)  d = Add(q, w) }> (n, "", x) }'
    ),
    "a state that every turn overwrites": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        '{ k2 = Identity(k)  d = Sin(w) }> (n, "", x) }'
    ),
    "a state that grows with every turn": (
        "(double[m,2] x, double[2] w, int64 n) => (double[p,2] y) { y = Loop "
        "<body = b (int64 i, bool k, double[q,2] a) => (bool k2, double[r,2] d) "
        '{ k2 = Identity(k)  p = Mul(a, w)  s = Sin(p)  d = Concat<axis=0>(s, a) }> (n, "", x) }'
    ),
    "a state whose number of axes nobody says": (
        "(double[m,2] x, double[2] w, int64[p] s, int64 n) => (double[q,2] y) <int64[2] t = {-1, 2}> { "
        "r = Reshape(x, s)  z = Loop "
        "<body = b (int64 i, bool k, double a) => (bool k2, double d) "
        '{ k2 = Identity(k)  p = Sin(a)  d = Mul(p, a) }> (n, "", r)  u = Reshape(z, t)  y = Mul(u, w) }'
    ),
    "loops and branches within": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) <int64 one = {1}> { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) { k2 = Identity(k)  p = Mul(a, w) "
        "h = Loop <body = bb (int64 ii, bool kk, double[2] aa) => (bool kk2, double[2] dd) "
        '{ kk2 = Identity(kk)  xx = Mul(aa, a)  yy = Sin(xx)  dd = Add(yy, w) }> (i, "", p) '
        "c = Equal(i, one)  d = If(c) <then_branch = t () => (double[2] q) { q = Mul(h, a) }, "
        'else_branch = e () => (double[2] r) { r = Cos(h) }> }> (n, "", x) }'
    ),
    "a loop in a branch": (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) <int64 two = {2}> { c = Less(n, two) "
        "y = If(c) <then_branch = t () => (double[2] p) { p = Mul(x, w) }, "
        "else_branch = e () => (double[2] q) { q = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        '{ k2 = Identity(k)  r = Mul(a, w)  d = Sin(r) }> (n, "", x) }> }'
    ),
}


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_loop_takes_its_turns_in_reverse(text, turns, rng):
    shape = (3, 2) if "double[m,2] x" in text else (2,)
    extra = {"s": np.array([3, 1, 2])} if "int64[p] s" in text else {}
    agrees(text, rng, x=normal(*shape), w=1 - normal(2) / 2, n=np.array(turns), **extra)


@pytest.mark.parametrize("turns", [1, 4])
def test_stacked_outputs_of_a_loop_send_a_gradient_to_each_turn(turns, rng):
    text = next(iter(LOOPS.values()))
    agrees(text, rng, "z", x=normal(2), w=normal(2), n=np.array(turns))


@pytest.mark.parametrize("limit", [-100, 3, 9])
@pytest.mark.parametrize("most", ['""', "n"])
def test_loop_that_stops_early_is_followed_as_far_as_it_ran(most, limit, rng):
    text = (
        "(double[2] x, double[2] w, double limit, int64 n) => (double[2] y) { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        "{ p = Mul(a, w)  q = Sin(p)  r = Add(q, w)  d = Add(a, r)  s = ReduceSum<keepdims=0>(d)  "
        "k2 = Less(s, limit) }> "
        f'({most}, "", x) }}'
    )
    x, w = np.abs(normal(2)), np.abs(normal(2)) / 2
    agrees(text, rng, x=x, w=w, limit=np.array(float(limit)), n=np.array(7))


def test_loop_whose_condition_is_false_from_the_start_hands_its_state_on():
    text = next(iter(LOOPS.values())).replace('(n, "", x)', "(n, c, x)").replace("int64 n)", "int64 n, bool c)")
    feeds = {"x": normal(2), "w": normal(2), "n": np.array(3), "c": np.array(False)}
    found = run(gradient_model(model(text), "y", ["x", "w"]), feeds | {"cotangent_y": np.array([3.0, 4.0])})
    assert_allclose(found["grad_x"], [3, 4])
    assert_allclose(found["grad_w"], [0, 0])


def test_known_number_of_turns_is_not_asked_of_the_run():
    text = next(iter(LOOPS.values())).replace(", int64 n)", ")").replace("{ y, z", "<int64 n = {3}> { y, z")
    proto = gradient_model(model(text), "y", ["x"])
    forward = next(n for n in proto.graph.node if n.op_type == "Loop")
    # State, stacked output, and the one recorded state; no numbers of turns.
    assert len(forward.output) == 3


def test_only_states_that_the_way_back_reads_are_recorded():
    text = (
        "(double[2] x, double[2] w, int64 n) => (double[2] y) { y = Loop "
        "<body = b (int64 i, bool k, double[2] a) => (bool k2, double[2] d) "
        '{ k2 = Identity(k)  d = Add(a, w) }> (n, "", x) }'
    )
    forward = next(n for n in gradient_model(model(text), "y", ["x", "w"]).graph.node if n.op_type == "Loop")
    assert len(forward.output) == 1


# ----- Scan -----

SCAN = (
    "(double[2] x, double[2] w, double[{read}] s) => (double[2] y, double[{written}] z) {{ "
    "y, z = Scan <num_scan_inputs=1{attributes}, body = b (double[2] a, double[2] c) => (double[2] d, double[2] e) "
    "{{ p = Mul(a, w)  q = Mul(p, c)  d = Sin(q)  e = Mul(a, c) }}> (x, s) }}"
)
WAYS = {
    "plain": SCAN.format(read="4,2", written="4,2", attributes=""),
    "no size known": SCAN.format(read="t,2", written="t,2", attributes=""),
    "backwards, along the last axis": SCAN.format(
        read="2,4",
        written="2,4",
        attributes=", scan_input_axes=[1], scan_input_directions=[1], "
        "scan_output_axes=[-1], scan_output_directions=[1]",
    ),
    "forth along the last axis, written backwards": SCAN.format(
        read="2,4", written="4,2", attributes=", scan_input_axes=[-1], scan_output_directions=[1]"
    ),
}


@pytest.mark.parametrize("of", ["y", "z"])
@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_scan_is_followed_in_every_direction(text, of, rng):
    read = (2, 4) if "double[2,4] s" in text else (4, 2)
    agrees(text, rng, of, x=normal(2), w=normal(2), s=normal(*read))


def test_scan_of_opset_8_is_refused_with_the_way_out():
    text = (
        "(float[n,t,2] x, float[n,2] s) => (float[n,2] y, float[n,t,2] z) { y, z = Scan <num_scan_inputs=1, "
        "body = b (float[2] a, float[2] c) => (float[2] d, float[2] e) { d = Add(a, c)  e = Mul(a, c) }> "
        '("", s, x) }'
    )
    with pytest.raises(UnsupportedModel, match=r"'y' is a Scan of opset 8.*: export the model at opset 9 or later"):
        gradient_model(model(text, opset=8), "y", ["x"])


def test_scan_without_states_maps_slices(rng):
    text = (
        "(double[4,2] x, double[2,4] w) => (double[4,2] y) { y = Scan <num_scan_inputs=2, scan_input_axes=[0,1], "
        "body = b (double[2] a, double[2] c) => (double[2] d) { p = Mul(a, c)  d = Sin(p) }> (x, w) }"
    )
    agrees(text, rng, x=normal(4, 2), w=normal(2, 4))


# ----- All of them -----


def test_unrolled_recurrence_and_its_loop_have_the_same_gradients():
    step = "{p} = MatMul({h}, r)  {q} = Add({p}, {x})  {n} = Tanh({q})"
    turns = [
        step.format(p=f"p{t}", h="h" if t == 0 else f"h{t}", q=f"q{t}", x=f"x{t}", n=f"h{t + 1}") for t in range(4)
    ]
    flat = (
        "(float[4,3] x, float[3,3] r, float[3] h) => (float[3] y) { "
        + "".join(f"s{t} = Constant<value_int={t}>()  x{t} = Gather(x, s{t})  " for t in range(4))
        + "  ".join(turns)
        + "  y = Identity(h4) }"
    )
    looped = (
        "(float[4,3] x, float[3,3] r, float[3] h) => (float[3] y) <int64 n = {4}> { y = Loop <body = b "
        "(int64 i, bool k, float[3] a) => (bool k2, float[3] d) { k2 = Identity(k)  xt = Gather(x, i) "
        + step.format(p="p", h="a", q="q", x="xt", n="d")
        + ' }> (n, "", h) }'
    )
    feeds = {name: normal(*s).astype(np.float32) for name, s in (("x", (4, 3)), ("r", (3, 3)), ("h", (3,)))}
    feeds["cotangent_y"] = normal(3).astype(np.float32)
    one, other = (run(gradient_model(model(text), "y", ["x", "r", "h"]), feeds) for text in (flat, looped))
    for name in ("y", "grad_x", "grad_r", "grad_h"):
        assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)


def test_rules_laid_over_the_standard_book_hold_in_bodies():
    book = STANDARD.overlay("twice")

    @book.rule("Relu", wrt="X")
    def twice(op, node, g):
        return op.Add(g, g)

    text = (
        "(float[2] x, int64 n, bool c) => (float[2] y) { y = Loop <body = b (int64 i, bool k, float[2] a) "
        "=> (bool k2, float[2] d) { k2 = Identity(k)  d = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) }, "
        'else_branch = e () => (float[2] q) { q = Neg(a) }> }> (n, "", x) }'
    )
    x = np.array([-1, 1], np.float32)
    feeds = {"x": x, "n": np.array(3), "c": np.array(True), "cotangent_y": np.ones(2, np.float32)}
    assert_allclose(run(gradient_model(model(text), "y", ["x"], book), feeds)["grad_x"], [8, 8])
    assert_allclose(run(gradient_model(model(text), "y", ["x"]), feeds)["grad_x"], [0, 1])


def test_gradient_of_a_gradient_goes_through_the_loop_back(rng):
    text = next(iter(LOOPS.values()))
    first = gradient_model(model(text), "y", ["x"])
    first.graph.output[-1].name = first.graph.node[-1].output[0] = "slope"
    feeds = {"x": normal(2), "w": normal(2), "n": np.array(3), "cotangent_y": normal(2)}
    for name, analytic, numeric in directional(first, feeds, rng, "slope"):
        assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-7), name


def test_half_precision_bodies_have_gradients_in_float32():
    text = (
        "(float16[2] x, float16[2] w, int64 n, bool c) => (float16[2] y) { y = Loop <body = b (int64 i, bool k, "
        "float16[2] a) => (bool k2, float16[2] d) { k2 = Identity(k)  d = If(c) <then_branch = t () => (float16[2] p) "
        '{ p = Mul(a, w) }, else_branch = e () => (float16[2] q) { q = Neg(a) }> }> (n, "", x) }'
    )
    half = np.array([1, 2], np.float16)
    feeds = {"x": half, "w": half, "n": np.array(2), "c": np.array(True), "cotangent_y": np.ones(2, np.float32)}
    found = run(gradient_model(model(text), "y", ["x", "w"]), feeds)
    assert_allclose(found["grad_x"], np.array([1, 4], np.float32), strict=True)
    assert_allclose(found["grad_w"], np.array([2, 8], np.float32), strict=True)


def test_old_opsets_are_converted_in_bodies(rng):
    text = (
        "(float[2,3] x, int64 n) => (float[2,3] y) <bool c = {1}> { y = Loop <body = b (int64 i, bool k, float[2,3] a) "
        "=> (bool k2, float[2,3] d) { k2 = Identity(k)  s = ReduceSum<axes=[1], keepdims=1>(a)  "
        "h = Constant<value = float[1] {0.5}>()  t = Mul(s, h)  d = Add(a, t) }> (n, c, x) }"
    )
    proto = gradient_model(model(text, opset=11), "y", ["x"])
    v = normal(2, 3).astype(np.float32)
    found = run(proto, {"x": normal(2, 3).astype(np.float32), "n": np.array(1), "cotangent_y": v})
    assert_allclose(found["grad_x"], v + v.sum(1, keepdims=True) / 2, rtol=1e-5)


def test_functions_are_inlined_in_bodies():
    text = """(float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = local.cube(x) },
        else_branch = e () => (float[2] q) { q = Neg(x) }> }
        <domain: "local", opset_import: ["" : 21]>
        cube (a) => (c) { b = Mul(a, a)  c = Mul(b, a) }
    """
    proto = gradient_model(model(text, imports=', "local" : 1'), "y", ["x"])
    x = np.array([2, 3], np.float32)
    found = run(proto, {"x": x, "c": np.array(True), "cotangent_y": np.ones(2, np.float32)})
    assert_allclose(found["grad_x"], 3 * x**2)


def test_convolutions_in_bodies_keep_their_geometry():
    text = (
        "(float[1,2,h,w] x, float[2,2,3,3] k, int64 n) => (float[1,2,h,w] y) { y = Loop <body = b (int64 i, bool g, "
        'float[1,2,p,q] a) => (bool g2, float[1,2,p,q] d) { g2 = Identity(g)  d = Conv<auto_pad="SAME_UPPER">(a, k) }> '
        '(n, "", x) }'
    )
    flat = "(float[1,2,h,w] x, float[2,2,3,3] k, int64 n) => (float[1,2,h,w] y) { a = C(x, k)  y = C(a, k) }"
    flat = flat.replace("C(", "Conv<pads=[1,1,1,1]>(")
    feeds = {"x": normal(1, 2, 4, 5), "k": normal(2, 2, 3, 3), "cotangent_y": normal(1, 2, 4, 5)}
    feeds = {name: a.astype(np.float32) for name, a in feeds.items()} | {"n": np.array(2)}
    one, other = (run(gradient_model(model(t), "y", ["x", "k"]), feeds) for t in (text, flat))
    assert_allclose(one["grad_x"], other["grad_x"], rtol=1e-4, atol=1e-4)
    assert_allclose(one["grad_k"], other["grad_k"], rtol=1e-4, atol=1e-4)


def test_two_gradients_of_one_loop_share_what_it_records():
    text = next(iter(LOOPS.values()))
    proto = gradient_model(gradient_model(model(text), "y", ["x"]), "z", ["w"])
    forward = next(n for n in proto.graph.node if n.op_type == "Loop")
    assert len(forward.output) <= 5
    session(proto)
    onnx.checker.check_model(proto, full_check=True)
