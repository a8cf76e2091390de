"""Arithmetic, one element at a time."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(1)
POSITIVE = rng.uniform(0.5, 2.0, (2, 3))
INNER = rng.uniform(-0.9, 0.9, (2, 3))
AWAY_FROM_0 = rng.uniform(0.3, 1.5, (2, 3)) * np.where(rng.random((2, 3)) < 0.5, -1, 1)


def unary(op_type, x, **settings):
    """A function of one number: static, then with sizes known at run time only."""
    return [
        case(op_type, f"(double[{shape}] x) => (double[{shape}] y) {{ y = {op_type}(x) }}", feeds={"x": x}, **settings)
        for shape in ("2,3", "a,b")
    ]


def binary(op_type, attributes="", feeds=None, **settings):
    """Two operands: equal shapes, broadcasting both ways, unknown sizes that turn out to broadcast, or not."""
    feeds = feeds or {}
    shapes = [("2,3", "2,3"), ("2,1,3", "4,1"), ("3", "2,3"), ("2,3", ""), ("a,b", "c,d"), ("a,b", "b")]
    sizes = [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((3,), (2, 3)), ((2, 3), ()), ((2, 3), (2, 1)), ((2, 3), (3,))]
    made = []
    for (a, b), (size_a, size_b) in zip(shapes, sizes, strict=True):
        draw = {k: f(s) for (k, f), s in zip(feeds.items(), (size_a, size_b), strict=True)} if feeds else {}
        draw = draw or {"a": rng.standard_normal(size_a), "b": rng.standard_normal(size_b)}
        known = np.broadcast_shapes(size_a, size_b)
        second = f"double[{b}] b" if b else "double b"
        y = ",".join(map(str, known))
        text = f"(double[{a}] a, {second}) => (double[{y}] y) {{ y = {op_type}{attributes}(a, b) }}"
        made.append(case(op_type, text, feeds=draw, **settings))
    return made


def positive(shape):
    return rng.uniform(0.5, 2.0, shape)


def anything(shape):
    return rng.standard_normal(shape)


CASES = [
    *binary("Add"),
    *binary("Sub"),
    *binary("Mul"),
    *binary("Div", feeds={"a": anything, "b": positive}),
    *binary("Pow", feeds={"a": positive, "b": anything}),
    *binary("Mod", "<fmod=1>", feeds={"a": lambda s: 5 * anything(s), "b": positive}),
    case(
        "Mod",
        "(double[2,3] a, double[3] b) => (double[2,3] y) { y = Mod(a, b) }",
        feeds={"a": 5 * anything((2, 3)), "b": np.array([1.1, -0.9, 1.7])},
        opset=28,
        note="rounded down, as floats may be from opset 28 on",
    ),
    *binary("Max"),
    *binary("Min"),
    # The reference evaluator adds in place, to the first operand's shape.
    *binary("Mean", runtimes=("ort",), numeric="ort"),
    *binary("Sum"),
    case("Mul", "(double[2,3] x) => (double[2,3] y) { y = Mul(x, x) }", note="one value as both operands"),
    *[
        case(
            "Pow",
            f"(double[2,3] x) => (double[2,3] y) "
            f"{{ p = Constant<value_float={p}>() q = CastLike(p, x) y = Pow(x, q) }}",
            feeds={"x": POSITIVE},
            note=f"x^{p}, exponent unknown to the rule",
        )
        for p in (0.0, 2.0)
    ],
    *[
        case(
            "Pow",
            f"(double[2,3] x) => (double[2,3] y) <double p = {{{p}}}> {{ y = Pow(x, p) }}",
            feeds={"x": POSITIVE},
            note=f"x^{p}",
        )
        for p in (0.0, 0.5, 1.0, -1.0, 1.7)
    ],
    *[
        case(
            "Pow",
            f"(double[2,3] x) => (double[2,3] y) <double p = {{{p}}}> {{ y = Pow(x, p) }}",
            feeds={"x": AWAY_FROM_0},
            note=f"x^{p}, negative x too",
        )
        for p in (2.0, 3.0, 4.0)
    ],
    case(
        "Pow",
        "(double[2,3] x) => (double[2,3] y) <int64[3] p = {2, 3, 0}> { y = Pow(x, p) }",
        feeds={"x": AWAY_FROM_0},
        note="integer exponents, one of them 0",
    ),
    case("Max", "(double[2,3] x) => (double[2,3] y) { y = Max(x) }", note="one operand"),
    case(
        "Max",
        "(double[2,3] a, double[3] b, double[1] c) => (double[2,3] y) { y = Max(a, b, c) }",
        note="three operands",
    ),
    case("Max", "(double[2,3] a) => (double[2,3] y) <double z = {0.2}> { y = Max(a, z) }", note="against a constant"),
    case("Min", "(double[a,b] a) => (double[a,b] y) <double z = {0.2}> { y = Min(a, z) }", note="against a constant"),
    case("Sum", "(double[2,3] a, double[3] b, double[1] c) => (double[2,3] y) { y = Sum(a, b, c) }"),
    case("Mean", "(double[2,3] a, double[3] b, double[1] c) => (double[2,3] y) { y = Mean(a, b, c) }"),
    case(
        "Where",
        "(bool[2,3] c, double[2,1] a, double[3] b) => (double[2,3] y) { y = Where(c, a, b) }",
        feeds={"c": np.array([[1, 0, 1], [0, 0, 1]], bool)},
    ),
    case(
        "Where",
        "(bool[p,q] c, double[r,s] a, double b) => (double[t,u] y) { y = Where(c, a, b) }",
        feeds={"c": np.array([[1, 0, 1], [0, 0, 1]], bool), "a": rng.standard_normal((1, 3))},
        note="sizes known at run time only",
    ),
    *[
        case("Clip", f"({shape} x) => ({shape} y) <double lo = {{-0.5}}, double hi = {{0.7}}> {{ y = Clip({args}) }}")
        for shape in ("double[4,5]", "double[a,b]")
        for args in ("x, lo, hi", "x, lo", "x, , hi", "x")
    ],
    case(
        "Clip",
        "(double[4,5] x) => (double[4,5] y) <double lo = {0}, double hi = {6}> { y = Clip(x, lo, hi) }",
        feeds={"x": 5 * rng.standard_normal((4, 5))},
        note="Relu6",
    ),
    case(
        "Clip",
        "(double[4,5] x, double lo, double hi) => (double[4,5] y) { y = Clip(x, lo, hi) }",
        feeds={"lo": np.float64(-0.5), "hi": np.float64(0.6)},
        note="bounds known at run time only",
    ),
    case(
        "Clip",
        "(double[4,5] x, double lo, double hi) => (double[4,5] y) { y = Clip(x, lo, hi) }",
        feeds={"lo": np.float64(0.5), "hi": np.float64(-0.6)},
        note="bounds the wrong way round",
    ),
    case("Clip", "(double[4,5] x, double lo) => (double[4,5] y) { y = Clip(x, lo) }", feeds={"lo": np.float64(-0.5)}),
    case("Clip", "(double[4,5] x, double hi) => (double[4,5] y) { y = Clip(x, , hi) }", feeds={"hi": np.float64(0.5)}),
    case("Identity", "(double[2,a] x) => (double[2,a] y) { y = Identity(x) }"),
    case(
        "Cast",
        "(float[2,a] x) => (float[2,a] y) { h = Cast<to=10>(x) y = Cast<to=1>(h) }",
        runtimes=("ort",),
        numeric="ort",
        rtol=1e-3,
        note="to float16 and back, which has three digits",
    ),
    case(
        "Cast",
        "(double[2,a] x) => (double[2,a] y) { i = Cast<to=7>(x) f = CastLike(i, x) y = Mul(f, x) }",
        note="through integers, where no gradient passes",
    ),
    case(
        "CastLike",
        "(double[2,a] x, float f) => (double[2,a] y) { z = CastLike(x, f) y = CastLike(z, x) }",
        wrt=("x",),
        feeds={"f": np.float32(0)},
        runtimes=("ort",),
        numeric="ort",
    ),
    case("CastLike", "(double[2,a] x, double t) => (double[2,a] y) { z = CastLike(x, t) y = Add(z, x) }"),
    case("Dropout", "(double[2,a] x) => (double[2,a] y) { y = Dropout(x) }"),
    case(
        "Dropout",
        "(double[2,a] x, double r) => (double[2,a] y) { y, mask = Dropout(x, r) }",
        feeds={"r": np.float64(0.3)},
        note="with a ratio",
    ),
    case(
        "Dropout",
        "(double[2,a] x) => (double[2,a] y) <float r = {0.3}, bool t = {0}> { y = Dropout(x, r, t) }",
        note="training mode off",
    ),
    case(
        "Dropout",
        "(double[9,9] x, bool t) => (double[9,9] y) <double r = {0.3}> { y, m = Dropout<seed=3>(x, r, t) }",
        feeds={"t": np.bool_(True)},
        runtimes=("reference",),
        note="training mode at run time, with its mask",
    ),
    case(
        "Dropout",
        "(double[9,9] x, bool t) => (double[9,9] y) <double r = {0.3}> { y = Dropout<seed=3>(x, r, t) }",
        feeds={"t": np.bool_(True)},
        runtimes=("reference",),
        note="training mode at run time",
    ),
    case(
        "Dropout",
        "(double[9,9] x, bool t) => (double[9,9] y) { y = Dropout<seed=3>(x, , t) }",
        feeds={"t": np.bool_(False)},
        note="training mode at run time, but off",
    ),
    *unary("Neg", INNER),
    *unary("Abs", AWAY_FROM_0),
    *unary("Reciprocal", AWAY_FROM_0),
    *unary("Sqrt", POSITIVE),
    *unary("Exp", INNER),
    *unary("Log", POSITIVE),
    *unary("Erf", AWAY_FROM_0, step=1e-2, rtol=1e-3),
    *unary("Sin", AWAY_FROM_0),
    *unary("Cos", AWAY_FROM_0),
    *unary("Tan", INNER),
    *unary("Asin", INNER),
    *unary("Acos", INNER),
    *unary("Atan", AWAY_FROM_0),
    *unary("Sinh", AWAY_FROM_0),
    *unary("Cosh", AWAY_FROM_0),
    *unary("Tanh", AWAY_FROM_0),
    *unary("Asinh", AWAY_FROM_0),
    *unary("Acosh", POSITIVE + 0.6),
    *unary("Atanh", INNER),
]
