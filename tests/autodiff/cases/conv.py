"""Convolutions."""

import numpy as np
from support.derivatives import case

CASES = [
    case("Conv", "(double[1,2,7,7] x, double[3,2,3,3] w) => (double[1,3,5,5] y) { y = Conv(x, w) }", wrt=("x",)),
    case("Conv", "(double[1,8,7,7] x, double[3,8,3,3] w) => (double[1,3,5,5] y) { y = Conv(x, w) }", wrt=("x",)),
    case(
        "Conv",
        "(double[1,2,8,8] x, double[3,2,3,3] w) => (double[1,3,3,3] y) { y = Conv<strides=[2,2]>(x, w) }",
        wrt=("x",),
        note="a stride that leaves the last row of x unread",
    ),
    case(
        "Conv",
        '(double[1,8,a,b] x, double[8,1,3,3] w) => (double[1,8,c,d] y) { y = Conv<group=8,strides=[2,2],auto_pad="SAME_UPPER">(x, w) }',
        wrt=("x",),
        feeds={"x": np.random.default_rng(0).standard_normal((1, 8, 7, 6))},
        note="sizes known at run time only",
    ),
]
