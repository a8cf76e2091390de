"""Cotangents that are zero outside a window: same numbers, less to compute."""

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose
from support.derivatives import case, run

from onnxsal.autodiff import backward, vjp

WEIGHTS = "double[4,6] u, double[6,4] v, double[4] s, double[6] b"
TOKENS = f"(double[n,5,4] x, {WEIGHTS}) => (double[n,4] y)"
BLOCK = """
  h = LayerNormalization(x, s)  p = MatMul(h, u)  q = Add(p, b)  e = Erf(q)  w = Mul(q, e)
  r = MatMul(w, v)  z = Add(x, r)
"""
NARROW = {
    "the first token": f"{TOKENS} {{ {BLOCK} i = Constant<value_int=0>()  y = Gather<axis=1>(z, i) }}",
    "a token, and the mean of others": f"""(double[n,5,4] x, {WEIGHTS}) => (double[n,1,4] y) {{ {BLOCK}
      a = Constant<value_ints=[1]>()  b2 = Constant<value_ints=[2]>()  e2 = Constant<value_ints=[5]>()
      one = Slice(z, a, b2, a)  others = Slice(z, b2, e2, a)  m = ReduceMean(others, a)  y = Mul(one, m) }}""",
    "overlapping slices": f"""(double[n,5,4] x, {WEIGHTS}) => (double[n,3,4] y) {{ {BLOCK}
      a = Constant<value_ints=[1]>()  o = Constant<value_ints=[0]>()  t = Constant<value_ints=[3]>()
      f = Constant<value_ints=[4]>()  left = Slice(z, o, t, a)  right = Slice(z, a, f, a)  y = Mul(left, right) }}""",
    "a window along the softmax": """(double[n,5,4] x) => (double[n,5,1] y) {
      p = Softmax<axis=2>(x)  a = Constant<value_ints=[2]>()
      o = Constant<value_ints=[1]>()  y = Slice(p, o, a, a) }""",
    "a window beside the softmax": """(double[n,5,4] x) => (double[n,1,4] y) {
      p = Softmax<axis=2>(x)  a = Constant<value_ints=[1]>()
      o = Constant<value_ints=[0]>()  y = Slice(p, o, a, a) }""",
    "an operand that is repeated": """(double[n,5,4] x, double[n,1,4] c, double[4] d) => (double[n,2,4] y) {
      p = Mul(x, c)  q = Add(p, d)  a = Constant<value_ints=[1]>()  f = Constant<value_ints=[3]>()
      y = Slice(q, a, f, a) }""",
    "a product whose columns are cut": """(double[n,5,4] x, double[4,6] u) => (double[n,5,2] y) {
      p = MatMul(x, u)  t = Constant<value_ints=[2]>()  f = Constant<value_ints=[4]>()  y = Slice(p, t, f, t) }""",
}


@pytest.mark.parametrize("weights", [(), ("u", "v", "s", "b")], ids=["inputs", "weights"])
@pytest.mark.parametrize("text", NARROW.values(), ids=NARROW)
def test_a_window_changes_no_gradient(text, weights, rng, monkeypatch):
    model = as_weights(text, *weights)
    wrt = [v.name for v in model.graph.input]
    narrow = ir.to_proto(vjp(model, of="y", wrt=wrt))
    monkeypatch.setattr(backward, "passes", lambda node, window: False)
    monkeypatch.setattr(backward, "join", lambda op, parts: list(parts))
    wide = ir.to_proto(vjp(model, of="y", wrt=wrt))
    shapes = {v.name: [d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in wide.graph.input}
    feeds = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    names = [f"grad_{n}" for n in wrt]
    for found, expected in zip(run(narrow, feeds, names, "ort"), run(wide, feeds, names, "ort"), strict=True):
        assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def as_weights(text: str, *names: str):
    """Return a case's model with some of its inputs as weights."""
    model = case("Slice", text).model(double=False)
    for value in [v for v in model.graph.input if v.name in names]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(
            ir.to_proto(ir.tensor(np.random.default_rng(3).standard_normal(shape).astype(np.float32), name=value.name))
        )
        model.graph.input.remove(value)
    return model


def test_linear_layers_before_a_chosen_token_are_passed_for_that_token_alone():
    graph = vjp(as_weights(NARROW["the first token"], "u", "v", "s", "b"), of="y", wrt="x").graph
    products = [n for n in graph if n.op_type == "MatMul" and "grad" in n.name]
    assert [n.outputs[0].shape[1] for n in products] == [1, 1]


def test_slices_that_lie_side_by_side_come_back_together():
    text = """(double[n,6,4] x) => (double[n,2,4] y) {
      a = Constant<value_ints=[1]>()  i = Constant<value_ints=[0]>()  j = Constant<value_ints=[2]>()
      k = Constant<value_ints=[4]>()  l = Constant<value_ints=[6]>()
      q = Slice(x, i, j, a)  r = Slice(x, j, k, a)  s = Slice(x, k, l, a)  t = Mul(q, r)  y = Mul(t, s) }"""
    graph = vjp(case("Slice", text).model(double=False), of="y", wrt="x").graph
    added = [n.op_type for n in graph if "grad" in n.name]
    assert "Concat" in added
    assert not {"Pad", "Add"} & set(added)
