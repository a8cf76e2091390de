"""What writes elements by index."""

import numpy as np
from support.derivatives import case


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape)


REDUCTIONS = ("none", "add", "mul", "max", "min")

CASES = [
    *(
        case(
            "ScatterElements",
            "(double[3,3] x, double[2,3] u) => (double[3,3] y) <int64[2,3] i = {1,-3,2,2,1,0}> "
            f'{{ y = ScatterElements<axis=0,reduction="{reduction}">(x, i, u) }}',
            note=reduction,
        )
        for reduction in REDUCTIONS
    ),
    *(
        case(
            "ScatterElements",
            "(double[n,m] x, double[n,p] u, int64[n,p] i) => (double[n,m] y) "
            f'{{ y = ScatterElements<axis=1,reduction="{reduction}">(x, i, u) }}',
            feeds={"u": normal(3, 4), "i": np.array([[0, 0, 1, 0], [2, -1, 2, 2], [1, 1, 1, 1]])},
            note=f"{reduction}, written more than once, no size known",
        )
        for reduction in REDUCTIONS[1:]
    ),
    case(
        "ScatterElements",
        "(double[3,4] x, double[2,2] u) => (double[3,4] y) <int64[2,2] i = {1,-1,2,0}> "
        "{ y = ScatterElements<axis=1>(x, i, u) }",
        runtimes=("ort",),
        note="indices of fewer rows than the data",
    ),
    case(
        "ScatterElements",
        "(double[4] x, double[5] u) => (double[4] y) <int64[5] i = {1,1,2,2,2}> "
        '{ y = ScatterElements<reduction="mul">(x, i, u) }',
        wrt=("u",),
        feeds={"u": [0.0, 2.0, 0.0, 0.0, 3.0]},
        note="zero factors, one in a place, and two",
    ),
    *(
        case(
            "ScatterND",
            "(double[3,2] x, double[2,2] u) => (double[3,2] y) <int64[2,1] i = {2,-3}> "
            f'{{ y = ScatterND<reduction="{reduction}">(x, i, u) }}',
            note=reduction,
        )
        for reduction in REDUCTIONS
    ),
    *(
        case(
            "ScatterND",
            "(double[n,m,3] x, double[p,3] u, int64[p,2] i) => (double[n,m,3] y) "
            f'{{ y = ScatterND<reduction="{reduction}">(x, i, u) }}',
            feeds={"u": normal(4, 3), "i": np.array([[0, 1], [0, 1], [2, 2], [0, 1]])},
            note=f"{reduction}, written more than once, no size known",
        )
        for reduction in REDUCTIONS[1:]
    ),
    *(
        case(
            "TensorScatter",
            "(double[n,2,m,3] x, double[n,2,2,3] u, int64[n] i) => (double[n,2,m,3] y) "
            f'{{ y = TensorScatter<mode="{mode}">(x, u, i) }}',
            feeds={"x": normal(2, 2, 4, 3), "u": normal(2, 2, 2, 3), "i": np.array(starts)},
            opset=24,
            note=mode,
        )
        for mode, starts in (("linear", (0, 2)), ("circular", (3, 1)))
    ),
]
