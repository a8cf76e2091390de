"""What only moves elements."""

import numpy as np
from support.derivatives import case

CASES = [
    case("Reshape", "(double[2,6] x) => (double[3,4] y) <int64[2] s = {3,-1}> { y = Reshape(x, s) }"),
    case(
        "Reshape", "(double[2,6] x) => (double[2,2,3] y) <int64[3] s = {0,2,3}> { y = Reshape(x, s) }", note="0 copies"
    ),
    case(
        "Reshape",
        "(double[n,c,h] x) => (double[a,b] y) <int64[2] s = {-1,3}> { y = Reshape(x, s) }",
        feeds={"x": np.random.default_rng(1).standard_normal((2, 3, 5))},
        note="no size known",
    ),
    case(
        "Reshape",
        "(double[n,6] x, int64[3] s) => (double[a,b,c] y) { y = Reshape(x, s) }",
        feeds={"s": np.array([2, 3, 3])},
        note="the shape is an input",
    ),
    case("Flatten", "(double[2,3,4] x) => (double[6,4] y) { y = Flatten<axis=-1>(x) }"),
    case("Flatten", "(double[n,3,h,w] x) => (double[n,m] y) { y = Flatten(x) }", note="no size known"),
    case("Squeeze", "(double[2,1,3,1] x) => (double[2,3] y) { y = Squeeze(x) }", note="all axes of size 1"),
    case("Squeeze", "(double[2,1,3,1] x) => (double[2,1,3] y) <int64[1] a = {-1}> { y = Squeeze(x, a) }"),
    case(
        "Squeeze",
        "(double[n,1,h,w] x) => (double[a,b,c] y) <int64[1] a = {1}> { y = Squeeze(x, a) }",
        note="no size known",
    ),
    case("Unsqueeze", "(double[2,3] x) => (double[1,2,3,1] y) <int64[2] a = {0,-1}> { y = Unsqueeze(x, a) }"),
    case(
        "Unsqueeze",
        "(double[n,h] x) => (double[n,1,h] y) <int64[1] a = {1}> { y = Unsqueeze(x, a) }",
        note="no size known",
    ),
    case("Transpose", "(double[2,3,4] x) => (double[4,2,3] y) { y = Transpose<perm=[2,0,1]>(x) }"),
    case("Transpose", "(double[2,3,4] x) => (double[4,3,2] y) { y = Transpose(x) }", note="reversed unless perm says"),
    case("Transpose", "(double[n,h,w] x) => (double[h,w,n] y) { y = Transpose<perm=[1,2,0]>(x) }", note="dynamic"),
    case("DepthToSpace", "(double[1,12,2,3] x) => (double[1,3,4,6] y) { y = DepthToSpace<blocksize=2>(x) }"),
    case(
        "DepthToSpace",
        '(double[1,12,2,3] x) => (double[1,3,4,6] y) { y = DepthToSpace<blocksize=2,mode="CRD">(x) }',
        note="channel before place",
    ),
    case(
        "DepthToSpace",
        '(double[n,c,h,w] x) => (double[a,b,d,e] y) { y = DepthToSpace<blocksize=2,mode="CRD">(x) }',
        feeds={"x": np.random.default_rng(1).standard_normal((2, 8, 2, 3))},
        note="CRD, no size known",
    ),
    case("SpaceToDepth", "(double[1,2,4,6] x) => (double[1,8,2,3] y) { y = SpaceToDepth<blocksize=2>(x) }"),
    case(
        "SpaceToDepth",
        '(double[1,2,4,6] x) => (double[1,8,2,3] y) { y = SpaceToDepth<blocksize=2, mode="CRD">(x) }',
        opset=28,
        note="the order that came with opset 28",
    ),
    case(
        "ReverseSequence",
        "(double[4,3,2] x) => (double[4,3,2] y) <int64[3] n = {1,4,2}> { y = ReverseSequence(x, n) }",
    ),
    case(
        "ReverseSequence",
        "(double[b,t] x, int64[b] n) => (double[b,t] y) { y = ReverseSequence<batch_axis=0,time_axis=1>(x, n) }",
        feeds={"n": np.array([1, 3, 2])},
        note="lengths are an input",
    ),
    case("Trilu", "(double[2,3,4] x) => (double[2,3,4] y) { y = Trilu(x) }"),
    case("Trilu", "(double[h,w] x) => (double[h,w] y) <int64 k = {-1}> { y = Trilu<upper=0>(x, k) }", note="below"),
    case(
        "CenterCropPad",
        "(double[5,4] x) => (double[2,7] y) <int64[2] s = {2,7}> { y = CenterCropPad(x, s) }",
        note="odd crop and odd padding",
    ),
    case(
        "CenterCropPad",
        "(double[2,n,m] x) => (double[2,a,b] y) <int64[2] s = {2,4}> { y = CenterCropPad<axes=[2,-2]>(x, s) }",
        note="some axes, no size known",
    ),
    case("Expand", "(double[3,1] x) => (double[2,3,4] y) <int64[3] s = {2,1,4}> { y = Expand(x, s) }"),
    case(
        "Expand",
        "(double[n,m] x) => (double[2,a,b] y) <int64[3] s = {2,3,4}> { y = Expand(x, s) }",
        feeds={"x": np.random.default_rng(1).standard_normal((3, 1))},
        note="only the run knows which axis is repeated",
    ),
    case("Tile", "(double[2,3] x) => (double[4,9] y) <int64[2] r = {2,3}> { y = Tile(x, r) }"),
    case("Tile", "(double[2,3] x) => (double[2,3] y) <int64[2] r = {1,1}> { y = Tile(x, r) }", note="one copy"),
    case(
        "Tile",
        "(double[n,m] x, int64[2] r) => (double[a,b] y) { y = Tile(x, r) }",
        feeds={"r": np.array([3, 2])},
        note="copies and sizes known at run time only",
    ),
    case("Concat", "(double[2,3] a, double[2,1] b) => (double[2,4] y) { y = Concat<axis=-1>(a, b) }"),
    case("Concat", "(double[2,3] a, double[2,3] b) => (double[4,3] y) { y = Concat<axis=0>(a, b) }", wrt=("b",)),
    case("Concat", "(double[2,3] a) => (double[2,6] y) { y = Concat<axis=1>(a, a) }", note="the same input twice"),
    case("Concat", "(double[2,3] a) => (double[2,3] y) { y = Concat<axis=1>(a) }", note="one input"),
    case(
        "Concat",
        "(double[n,p] a, double[n,q] b, double[n,2] c) => (double[n,r] y) { y = Concat<axis=1>(a, b, c) }",
        feeds={"a": np.ones((2, 1)), "b": np.ones((2, 4)), "c": np.ones((2, 2))},
        note="sizes known at run time only",
    ),
    case(
        "Split",
        "(double[2,7] x) => (double[2,3] y) <int64[3] s = {3,1,3}> "
        "{ a, b, c = Split<axis=1>(x, s)  t = Mul(a, c)  y = Add(t, b) }",
        note="sizes are an input",
    ),
    case(
        "Split",
        "(double[2,7] x) => (double[2,1] y) { a, b, y = Split<axis=-1,num_outputs=3>(x) }",
        note="a smaller last part, and parts that nobody reads",
    ),
    case(
        "Split",
        "(double[n,m] x) => (double[n,p] y) { a, b = Split<axis=1,num_outputs=2>(x)  y = Mul(b, b) }",
        feeds={"x": np.random.default_rng(1).standard_normal((2, 6))},
        note="no size known, first part unread",
    ),
]
