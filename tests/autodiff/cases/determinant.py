"""Determinants."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(6)


def det(shape, x, **settings):
    return case("Det", f"(double[{shape}] x) => (double[] y) {{ y = Det(x) }}", feeds={"x": x}, **settings)


CASES = [
    det("3,3", rng.standard_normal((3, 3)), note="one"),
    det("2,3,4,4", rng.standard_normal((2, 3, 4, 4)), note="many"),
    det("1,1", rng.standard_normal((1, 1)), note="of a number"),
    det("n,m,m", rng.standard_normal((2, 5, 5)), note="sizes known at run time only"),
    det("2,3,3", [np.outer([1.0, 2, 3], [1, 0, 2]) + np.eye(3, k=1), np.diag([2.0, 0, 3])], note="singular"),
    det("2,2", np.zeros((2, 2)), note="of zeros"),
]
