"""Products of matrices."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(4)


def matmul(a, b, *, dynamic=False):
    """The product of arrays of these shapes, stated or known at run time only."""
    y = np.matmul(np.zeros(a), np.zeros(b)).shape
    names = [iter(letters) for letters in ("abcd", "efgh", "pqrs")]
    said = [",".join(next(n) if dynamic else str(d) for d in s) for s, n in zip((a, b, y), names, strict=True)]
    return case(
        "MatMul",
        f"(double[{said[0]}] a, double[{said[1]}] b) => (double[{said[2]}] y) {{ y = MatMul(a, b) }}",
        feeds={"a": rng.standard_normal(a), "b": rng.standard_normal(b)},
        note=f"{a} times {b}{', at run time' if dynamic else ''}",
    )


def gemm(attributes, a, b, c, y=(2, 4)):
    alike = {"a": a, "b": b, "c": c}
    said = ", ".join(f"double[{','.join(map(str, s))}] {n}" for n, s in alike.items() if s is not None)
    names = ", ".join(n for n, s in alike.items() if s is not None)
    return case("Gemm", f"({said}) => (double[{','.join(map(str, y))}] y) {{ y = Gemm{attributes}({names}) }}")


SHAPES = [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (2, 3, 4)),
    ((2, 5, 3), (3,)),
    ((2, 5, 3), (3, 4)),
    ((5, 3), (2, 3, 4)),
    ((2, 5, 3), (2, 3, 4)),
    ((2, 1, 5, 3), (4, 3, 2)),
    ((1, 5, 3), (2, 3, 4)),
    ((1, 2, 5, 3), (3, 1, 3, 4)),
]

CASES = [
    *[matmul(a, b) for a, b in SHAPES],
    *[matmul(a, b, dynamic=True) for a, b in SHAPES],
    case(
        "MatMul",
        "(double[n,3] x) => (double[n,n] y) { t = Transpose(x) y = MatMul(x, t) }",
        note="a product with itself",
    ),
    gemm("", (2, 3), (3, 4), (2, 4)),
    gemm("<alpha=0.5,beta=2.0>", (2, 3), (3, 4), (4,)),
    gemm("<transA=1>", (3, 2), (3, 4), (2, 1)),
    gemm("<transB=1>", (2, 3), (4, 3), (1,)),
    gemm("<transA=1,transB=1,alpha=0.5>", (3, 2), (4, 3), None),
    gemm("", ("m", "k"), ("k", "n"), ("n",), ("m", "n")),
    gemm("<transA=1,transB=1,beta=0.5>", ("k", "m"), ("n", "k"), ("p", "q"), ("m", "n")),
    case(
        "Range",
        "(double a, double b, double d) => (double[n] y) { y = Range(a, b, d) }",
        feeds={"a": np.float64(0.3), "b": np.float64(2.0), "d": np.float64(0.4)},
    ),
    case(
        "Range",
        "(double a) => (double[5] y) <double b = {2}, double d = {0.4}> { y = Range(a, b, d) }",
        feeds={"a": np.float64(0.3)},
        note="with respect to where it starts",
    ),
]
