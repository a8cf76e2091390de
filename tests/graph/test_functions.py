"""Operators that ONNX defines by a function: written out they compute the same, and have the same derivative."""

import numpy as np
import onnx_ir as ir
import pytest
from numpy.testing import assert_allclose
from support.derivatives import case, directional_derivatives, random_feeds, run

from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.functions import EXPANDED

CAUSAL_CONV = [
    case(
        "CausalConvWithState",
        f"(double[{x}] x, double[3,1,3] w, double[3] b, double[2,3,2] s) => (double[{x}] y)"
        f' {{ y, t = CausalConvWithState<activation="{activation}">(x, w, {inputs}) }}',
        wrt=("x", "w", *(n for n in "bs" if n in inputs)),
        feeds={"x": np.random.default_rng(0).standard_normal((2, 3, 5))},
        opset=27,
        runtimes=("ort",),
        numeric="ort",
        step=1e-2,
        rtol=1e-3,
        note=f"{activation}, {inputs}, {x}",
    )
    for activation, inputs in (("none", "b"), ("none", ", s"), ("silu", "b, s"))
    for x in ("2,3,5", "n,3,t")
]

LINEAR_ATTENTION = [
    case(
        "LinearAttention",
        f"(double[{n},4,16] q, double[{n},4,16] k, double[{n},4,16] v, double[{n},4,2] d, double[{n},4,2] b)"
        f" => (double[{n},4,16] y)"
        ' { y, s = LinearAttention<q_num_heads=2,kv_num_heads=2,update_rule="gated_delta">(q, k, v, , d, b) }',
        feeds={name: np.random.default_rng(i).standard_normal((2, 4, 16)) for i, name in enumerate("qkv")}
        | {name: np.random.default_rng(3).uniform(-1, 0, (2, 4, 2)) for name in "db"},
        opset=27,
        runtimes=("ort",),
        numeric="ort",
        step=1e-2,
        rtol=1e-3,
        note=f"a batch of {n}",
    )
    for n in ("2", "n")
]

# ONNX Runtime writes SwiGLU out to a Swish that it then has no kernel for.
SWIGLU = [
    case(
        "SwiGLU",
        f"(double[{shape}] a, double[{shape}] b) => (double[{shape}] y) {{ y = SwiGLU{attributes}(a, b) }}",
        opset=28,
        runtimes=("reference",),
        note=f"{attributes}, {shape}",
    )
    for attributes, shape in (("", "2,5"), ("<alpha=1.7>", "n,d"))
]


@pytest.mark.parametrize("case", [*CAUSAL_CONV, *LINEAR_ATTENTION, *SWIGLU], ids=str)
def test_written_out_operator_has_the_derivative_of_the_operator(case, rng):
    for runtime, (analytic, numeric) in directional_derivatives(case, rng).items():
        assert analytic == pytest.approx(numeric, rel=case.rtol or 1e-6), runtime


@pytest.mark.parametrize("case", [*CAUSAL_CONV, *LINEAR_ATTENTION, *SWIGLU], ids=str)
def test_written_out_operator_computes_what_the_operator_does(case, rng):
    feeds, runtime = random_feeds(case, rng), case.runtimes[0]
    model = canonicalise(ir.from_proto(case.model(double=runtime != "ort")))
    assert not EXPANDED & {node.op_type for node in model.graph}
    (expected,), (found,) = (run(m, feeds, ["y"], runtime) for m in (case.model(), ir.to_proto(model)))
    assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
