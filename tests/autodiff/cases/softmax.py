"""Softmax and LogSoftmax."""

import numpy as np
from support.derivatives import case

CASES = [
    *(
        case(op_type, f"(double[{shape}] x) => (double[{shape}] y) {{ y = {op_type}{attributes}(x) }}")
        for op_type in ("Softmax", "LogSoftmax")
        for shape, attributes in (("2,5", ""), ("2,3,4", "<axis=1>"), ("a,b,c", "<axis=0>"), ("a,b", "<axis=-2>"))
    ),
    case(
        "Softmax",
        "(double[3,4] x, double[3,4] mask) => (double[3,4] y) <double zero = {0}>"
        " { s = Add(x, mask) p = Softmax(s) q = Identity(p) bad = IsNaN(q) y = Where(bad, zero, q) }",
        wrt=("x",),
        feeds={"mask": np.where([[0] * 4, [1] * 4, [0, 1, 1, 0]], -np.inf, 0.0)},
        # The reference evaluator warns of what is no number.
        runtimes=("ort",),
        numeric="ort",
        step=1e-2,
        rtol=1e-3,
        note="a row that is masked throughout, and replaced",
    ),
]
