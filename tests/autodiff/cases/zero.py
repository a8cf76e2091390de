"""Operators that are constant between their jumps: nothing comes through them, and nothing stops at them."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(6)
BETWEEN = rng.integers(-3, 3, (2, 3)) + rng.uniform(0.1, 0.4, (2, 3))


def beside(op_type, body, x=BETWEEN, **settings):
    """A model y = m * x, in which `body` makes m of x; the product makes the rest of the path."""
    return case(op_type, f"(double[a,b] x) => (double[a,b] y) {{ {body} y = Mul(m, x) }}", feeds={"x": x}, **settings)


def compared(op_type):
    return case(
        op_type,
        f"(double[2,3] x, double[3] z) => (double[2,3] y) {{ b = {op_type}(x, z) y = Where(b, x, z) }}",
        feeds={"x": BETWEEN},
    )


CASES = [
    *[beside(op_type, f"m = {op_type}(x)") for op_type in ("Floor", "Ceil", "Round", "Sign", "Hardmax")],
    *[compared(op_type) for op_type in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[beside(op_type, f"b = {op_type}(x) m = CastLike(b, x)") for op_type in ("ArgMax", "ArgMin")],
    *[beside(op_type, f"b = {op_type}(x) n = Not(b) m = CastLike(n, x)") for op_type in ("IsNaN", "IsInf")],
    beside("Shape", "s = Shape<start=-1>(x) m = CastLike(s, x)"),
    beside("Size", "s = Size(x) m = CastLike(s, x)"),
    beside("NonZero", "n = NonZero(x) s = Shape(n) r = ReduceMax<keepdims=0>(s) m = CastLike(r, x)"),
    *[
        beside(op_type, f"r = {op_type}(x) s = Shape<end=1>(r) m = CastLike(s, x)", np.abs(BETWEEN) / 4, **settings)
        for op_type, settings in (
            ("Bernoulli", {}),
            ("Multinomial", {"runtimes": ("ort",), "numeric": "ort"}),  # the reference evaluator has none
            ("RandomNormalLike", {}),
            ("RandomUniformLike", {}),
        )
    ],
    case(
        "OneHot",
        "(double[2,3] x, double d) => (double[2,3] y) <double[2] v = {0.5, 2}> "
        "{ h = OneHot<axis=0>(x, d, v) m = ReduceSum<keepdims=0>(h) a = Mul(m, x) y = Add(a, d) }",
        feeds={"x": BETWEEN, "d": np.float64(4.5)},
        runtimes=("reference",),
        note="ONNX Runtime has no kernel for fractional indices",
    ),
    case(
        "NonMaxSuppression",
        "(float[1,3,4] x, float[1,1,3] p, float[1] iou, float[1] low) => (float[1,3,4] y) <int64 n = {3}> "
        "{ k = NonMaxSuppression(x, p, n, iou, low) s = Shape<start=0,end=1>(k) f = CastLike(s, x) "
        "a = Mul(f, x) b = Add(a, iou) y = Add(b, low) }",
        wrt=("x", "iou", "low"),
        feeds={
            "x": np.array([[[0, 0, 1, 1], [0, 0, 1, 1.1], [3, 3, 4, 4]]]),
            "p": np.array([[[0.9, 0.8, 0.7]]]),
            "iou": np.array([0.5]),
            "low": np.array([0.1]),
        },
        runtimes=("ort",),
        numeric="ort",
        step=1e-2,
    ),
    case(
        "NonMaxSuppression",
        "(float[1,3,4] x, float[1,1,3] p) => (float[1,1,3] y) <int64 n = {3}> "
        "{ k = NonMaxSuppression(x, p, n) s = Shape<start=0,end=1>(k) f = CastLike(s, x) y = Mul(f, p) }",
        feeds={"x": np.array([[[0, 0, 1, 1], [0, 0, 2, 2], [3, 3, 4, 4.5]]]), "p": np.array([[[0.9, 0.8, 0.7]]])},
        runtimes=("ort",),
        numeric="ort",
        step=1e-2,
        note="with respect to the scores",
    ),
    case("EyeLike", "(double[3,3] x) => (double[3,3] y) { m = EyeLike(x) y = Mul(m, x) }"),
    case(
        "MelWeightMatrix",
        "(double low, double high) => (double y) <int32 bins = {8}, int32 length = {64}, int32 rate = {8192}> "
        "{ f = MelWeightMatrix(bins, length, rate, low, high) m = CastLike(f, low) s = ReduceSum<keepdims=0>(m) "
        "a = Mul(s, low) y = Mul(a, high) }",
        feeds={"low": np.float64(10), "high": np.float64(4000)},
        rtol=1e-3,
    ),
]
