"""Reductions, over every way to say the axes, and running sums."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(3)
FAR_APART = rng.permutation(np.linspace(0.4, 2.0, 24)).reshape(2, 3, 4)
SIGNED = FAR_APART * np.where(rng.random((2, 3, 4)) < 0.5, -1, 1)
ALONE = FAR_APART.copy()
ALONE[0, 1, 2] = 0
TWICE = ALONE.copy()
TWICE[0, 1, 3] = 0


def reduction(op_type, x):
    """A reduction over axes: none, constant, negative, empty, known at run time only; sizes known or not."""
    spellings = [
        ("double[2,3,4]", "double", "", "<keepdims=0>(x)"),
        ("double[2,3,4]", "double[1,1,1]", "", "(x)"),
        ("double[2,3,4]", "double[2,1,4]", "<int64[1] axes = {1}>", "(x, axes)"),
        ("double[2,3,4]", "double[3]", "<int64[2] axes = {-1, 0}>", "<keepdims=0>(x, axes)"),
        ("double[a,b,c]", "double[a]", "<int64[2] axes = {-1, 1}>", "<keepdims=0>(x, axes)"),
        ("double[a,b,c]", "double[a,1,c]", "<int64[1] axes = {1}>", "(x, axes)"),
    ]
    at_run_time = [("double[2,3,4]", "double[p]"), ("double[a,b,c]", "double[p]")]
    return [
        case(op_type, f"({i} x) => ({o} y) {axes} {{ y = {op_type}{call} }}", feeds={"x": x})
        for i, o, axes, call in spellings
    ] + [
        case(
            op_type,
            f"({i} x, int64[n] axes) => ({o} y) {{ y = {op_type}<keepdims=0>(x, axes) }}",
            feeds={"x": x, "axes": np.array([-1, 0])},
            note=f"axes known at run time only, {i}",
        )
        for i, o in at_run_time
    ]


OPERATORS = {
    "ReduceSum": SIGNED,
    "ReduceMean": SIGNED,
    "ReduceMax": SIGNED,
    "ReduceMin": SIGNED,
    "ReduceProd": SIGNED,
    "ReduceL1": SIGNED,
    "ReduceL2": SIGNED,
    "ReduceLogSum": FAR_APART,
    "ReduceLogSumExp": SIGNED,
    "ReduceSumSquare": SIGNED,
}

CASES = [
    *[made for op_type, x in OPERATORS.items() for made in reduction(op_type, x)],
    # Nothing is reduced then, but squares are squared and logarithms taken.
    *[
        case(
            op_type,
            f"(double[{shape}] x{parameter}) => (double[{shape}] y) "
            f"{{ y = {op_type}<noop_with_empty_axes=1>(x{', axes' * bool(parameter)}) }}",
            feeds={"x": FAR_APART, "axes": np.zeros(0, np.int64)},
            note=f"nothing reduced{', as only the run can tell' * bool(parameter)}",
        )
        for op_type in OPERATORS
        for shape, parameter in (("2,3,4", ""), ("a,b,c", ", int64[n] axes"))
    ],
    *[
        case(
            "ReduceProd",
            "(double[2,3,4] x) => (double[2,3] y) <int64[1] axes = {2}> { y = ReduceProd<keepdims=0>(x, axes) }",
            feeds={"x": x},
            note=note,
        )
        for x, note in ((ALONE, "one zero"), (TWICE, "two zeros in one row"))
    ],
    *[
        case(
            "CumSum",
            f"(double[{shape}] x) => (double[{shape}] y) <int64 k = {{{axis}}}> {{ y = CumSum{attributes}(x, k) }}",
        )
        for shape, axis, attributes in (
            ("2,5", 1, ""),
            ("2,5", -1, "<exclusive=1>"),
            ("2,5", 0, "<reverse=1>"),
            ("a,b", 1, "<exclusive=1, reverse=1>"),
        )
    ],
    case(
        "CumSum",
        "(double[a,b] x, int64 k) => (double[a,b] y) { y = CumSum(x, k) }",
        feeds={"k": np.int64(1)},
        note="axis known at run time only",
    ),
    *[
        case(
            "CumProd",
            f"(double[{shape}] x) => (double[{shape}] y) <int64 k = {{{axis}}}> {{ y = CumProd{attributes}(x, k) }}",
            feeds={"x": x},
            opset=26,
            note=note,
        )
        for shape, axis, attributes, x, note in (
            ("2,3,4", 2, "", SIGNED, "along the last axis"),
            ("a,b,c", -1, "<reverse=1>", ALONE, "one zero"),
            ("2,3,4", 2, "<exclusive=1>", TWICE, "two zeros in one row"),
            ("a,b,c", 1, "<exclusive=1, reverse=1>", TWICE, "along an axis within"),
        )
    ],
]
