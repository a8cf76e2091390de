"""What picks elements by index."""

import numpy as np
from support.derivatives import case


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape)


def distinct(*shape):
    """Numbers that lie apart, so that a small step does not change their order."""
    return np.random.default_rng(1).permutation(np.prod(shape)).reshape(shape) / 7.0


CASES = [
    case("Gather", "(double[3,4] x) => (double[3] y) <int64 i = {-1}> { y = Gather<axis=1>(x, i) }", note="one"),
    case("Gather", "(double[4,3] x) => (double[2,3] y) <int64[2] i = {1,2}> { y = Gather(x, i) }", note="a range"),
    case("Gather", "(double[3,8] x) => (double[3,3] y) <int64[3] i = {-2,-5,-8}> { y = Gather<axis=-1>(x, i) }"),
    case("Gather", "(double[3,4] x) => (double[3,4] y) <int64[4] i = {2,-4,3,1}> { y = Gather<axis=1>(x, i) }"),
    case("Gather", "(double[3,4] x) => (double[3,3] y) <int64[3] i = {3,0,1}> { y = Gather<axis=1>(x, i) }"),
    case("Gather", "(double[3,4] x) => (double[3,3] y) <int64[3] i = {-1,0,1}> { y = Gather<axis=1>(x, i) }"),
    case(
        "Gather", "(double[3,4] x) => (double[3,3] y) <int64[3] i = {1,3,1}> { y = Gather<axis=1>(x, i) }", note="twice"
    ),
    case("Gather", "(double[3,4] x) => (double[2,2,4] y) <int64[2,2] i = {0,2,-1,0}> { y = Gather(x, i) }"),
    case(
        "Gather",
        "(double[n,t,c] x) => (double[n,c] y) <int64 i = {0}> { y = Gather<axis=1>(x, i) }",
        note="a class token, no size known",
    ),
    case(
        "Gather",
        "(double[n,t] x) => (double[n,3] y) <int64[3] i = {-1,2,0}> { y = Gather<axis=1>(x, i) }",
        note="no size known, from both ends",
        feeds={"x": normal(2, 4)},
    ),
    case(
        "Gather",
        "(double[n,m] x, int64[p,q] i) => (double[n,p,q] y) { y = Gather<axis=1>(x, i) }",
        feeds={"i": np.array([[0, -1], [2, 0]])},
        note="indices are an input",
    ),
    case(
        "GatherElements",
        "(double[3,3] x) => (double[2,3] y) <int64[2,3] i = {1,-1,0,1,0,0}> { y = GatherElements(x, i) }",
    ),
    case(
        "GatherElements",
        "(double[n,m] x, int64[n,p] i) => (double[n,p] y) { y = GatherElements<axis=-1>(x, i) }",
        feeds={"i": np.array([[0, 0, 1], [2, 1, 0], [-1, 0, 0]])},
        note="no size known",
    ),
    case(
        "GatherND",
        "(double[2,3,2] x) => (double[3,2] y) <int64[3,2] i = {0,-1,1,0,0,2}> { y = GatherND(x, i) }",
        note="slices, one twice",
    ),
    case(
        "GatherND",
        "(double[n,3,m] x, int64[n,2,1] i) => (double[n,2,m] y) { y = GatherND<batch_dims=1>(x, i) }",
        feeds={"x": normal(2, 3, 4), "i": np.array([[[0], [0]], [[-1], [1]]])},
        note="batch_dims",
    ),
    case(
        "Compress",
        "(double[2,4] x, bool[3] c) => (double[2,n] y) { y = Compress<axis=1>(x, c) }",
        feeds={"c": np.array([True, False, True])},
        note="a condition shorter than the axis",
    ),
    case(
        "Compress",
        "(double[n,m] x, bool[5] c) => (double[p] y) { y = Compress(x, c) }",
        feeds={"c": np.array([False, True, False, True, True])},
        note="flattened",
    ),
    case(
        "OneHot",
        "(int64[4] i, int64 d, double[2] v) => (double[4,n] y) { y = OneHot(i, d, v) }",
        feeds={"i": np.array([1, 0, -1, 7]), "d": np.array(3)},
        runtimes=("ort",),
        numeric="ort",
        note="from the end, and out of range",
    ),
    case(
        "TopK",
        "(double[3,5] x) => (double[3,2] y) <int64[1] k = {2}> { y, i = TopK(x, k) }",
        feeds={"x": distinct(3, 5)},
    ),
    case(
        "TopK",
        "(double[n,m] x, int64[1] k) => (double[p,m] y) { y, i = TopK<axis=0,largest=0,sorted=1>(x, k) }",
        feeds={"x": distinct(4, 3), "k": np.array([3])},
        note="the smallest, no size known",
    ),
    case("Unique", "(double[2,3,4] x) => (double[n] y) { y = Unique(x) }", feeds={"x": distinct(2, 3, 4)}),
    case(
        "Unique",
        "(double[a,b] x) => (double[n] y) { y = Unique<sorted=0>(x) }",
        feeds={"x": distinct(3, 4)},
        runtimes=("ort",),
        numeric="ort",
        step=0.01,
        note="unsorted, where the reference evaluator indexes rows",
    ),
    case(
        "Unique",
        "(double[2,3,4] x) => (double[2,3,4] y) { y, i, j, k = Unique<axis=1>(x) }",
        feeds={"x": distinct(2, 3, 4)},
        note="slices along an axis",
    ),
]
