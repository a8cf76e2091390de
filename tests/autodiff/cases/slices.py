"""Slice and Pad."""

import numpy as np
from support.derivatives import case


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape)


LAST = 2**63 - 1

CASES = [
    case(
        "Slice",
        "(double[5,6] x) => (double[3,6] y) <int64[1] b = {1}, int64[1] e = {4}> { y = Slice(x, b, e) }",
    ),
    case(
        "Slice",
        f"(double[5,6] x) => (double[1,4] y) "
        f"<int64[2] b = {{-4,-2}}, int64[2] e = {{{LAST},-1}}, int64[2] a = {{-1,0}}> "
        "{ y = Slice(x, b, e, a) }",
        note="from the end, beyond the end",
    ),
    case(
        "Slice",
        "(double[5,7] x) => (double[3,2] y) "
        "<int64[2] b = {0,1}, int64[2] e = {5,6}, int64[2] a = {0,1}, int64[2] s = {2,3}> "
        "{ y = Slice(x, b, e, a, s) }",
        note="steps above 1",
    ),
    case(
        "Slice",
        f"(double[5,8] x) => (double[5,3] y) <int64[2] b = {{-1,6}}, int64[2] e = {{{-LAST},0}}, int64[2] a = {{0,1}}, "
        "int64[2] s = {-1,-2}> { y = Slice(x, b, e, a, s) }",
        note="steps below 0",
    ),
    case(
        "Slice",
        "(double[4,3] x) => (double[0,3] y) <int64[1] b = {3}, int64[1] e = {1}> { y = Slice(x, b, e) }",
        runtimes=("ort",),
        note="nothing left",
    ),
    case(
        "Slice",
        "(double[n,3,h,w] x) => (double[n,3,p,q] y) "
        "<int64[2] b = {1,0}, int64[2] e = {-1,9}, int64[2] a = {2,3}, int64[2] s = {2,2}> "
        "{ y = Slice(x, b, e, a, s) }",
        feeds={"x": normal(1, 3, 7, 4)},
        note="no size known, steps above 1",
    ),
    case(
        "Slice",
        "(double[n,m] x, int64[1] b, int64[1] e) => (double[n,p] y) <int64[1] a = {1}> { y = Slice(x, b, e, a) }",
        feeds={"x": normal(2, 6), "b": np.array([-9]), "e": np.array([-2])},
        note="begin and end are inputs, begin before the first",
    ),
    case(
        "Slice",
        "(double[n,m] x, int32[1] b, int32[1] e) => (double[n,p] y) "
        "<int32[1] a = {1}, int32[1] s = {-2}> { y = Slice(x, b, e, a, s) }",
        feeds={"x": normal(2, 6), "b": np.array([99], np.int32), "e": np.array([0], np.int32)},
        note="int32, backwards from behind the last",
    ),
    case(
        "Slice",
        "(double[4,5] x, int64[2] b, int64[2] e, int64[2] a, int64[2] s) => (double[n,m] y) "
        "{ y = Slice(x, b, e, a, s) }",
        feeds={"b": np.array([-1, 0]), "e": np.array([0, 5]), "a": np.array([1, 0]), "s": np.array([-2, 1])},
        note="axes and steps are inputs",
    ),
    case(
        "Pad",
        "(double[2,3] x) => (double[3,6] y) <int64[4] p = {0,1,1,2}> { y = Pad(x, p) }",
    ),
    case(
        "Pad",
        "(double[4,5] x, double c) => (double[5,4] y) <int64[4] p = {2,-2,-1,1}> { y = Pad(x, p, c) }",
        runtimes=("ort",),
        numeric="ort",
        note="negative pads, and what is padded with",
    ),
    case(
        "Pad",
        "(double[2,3] x, double[1] c) => (double[2,6] y) "
        "<int64[2] p = {1,2}, int64[1] a = {-1}> { y = Pad(x, p, c, a) }",
        note="an axis, and what is padded with",
    ),
    case(
        "Pad",
        "(double[n,m] x) => (double[a,b] y) <int64[4] p = {0,1,1,2}> { y = Pad(x, p) }",
        note="no size known",
    ),
    case(
        "Pad",
        "(double[n,m] x, int64[4] p) => (double[a,b] y) { y = Pad(x, p) }",
        feeds={"p": np.array([0, -1, 1, 2])},
        runtimes=("ort",),
        numeric="ort",
        note="pads are an input",
    ),
    *(
        case("Pad", f'(double[3,4] x) => (double[5,9] y) <int64[4] p = {{1,2,1,3}}> {{ y = Pad<mode="{mode}">(x, p) }}')
        for mode in ("reflect", "edge", "wrap")
    ),
    *(
        case(
            "Pad",
            f"(double[n,3,h,w] x) => (double[n,3,a,b] y) "
            f'<int64[8] p = {{0,0,1,1,0,0,1,2}}> {{ y = Pad<mode="{mode}">(x, p) }}',
            feeds={"x": normal(1, 3, 3, 4)},
        )
        for mode in ("reflect", "edge", "wrap")
    ),
]
