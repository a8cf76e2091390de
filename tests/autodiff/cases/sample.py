"""Sampling at computed places."""

import numpy as np
from support.derivatives import case

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(-1.9, 1.9, (2, 3, 4, 2))
PLACES_3D = RNG.uniform(-1.4, 1.4, (2, 2, 3, 4, 3))

# The reference evaluator handles the outside before the interpolation, otherwise than ONNX Runtime and PyTorch.
# GridSample is linear in X, so any step is exact; test_sample.py has the differences for the grid.
ORT_ONLY = {"runtimes": ("ort",), "numeric": "ort"}

GRID_SAMPLE = [
    *(
        case(
            "GridSample",
            "(double[2,3,4,5] x, double[2,3,4,2] grid) => (double[2,3,3,4] y)"
            f' {{ y = GridSample<mode="{mode}",padding_mode="{padding}",align_corners={align}>(x, grid) }}',
            wrt=("x",),
            feeds={"grid": PLACES},
            note=f"{mode}, {padding}, align_corners {align}",
            **ORT_ONLY,
        )
        for mode in ("nearest", "linear", "cubic")
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ),
    *(
        case(
            "GridSample",
            "(double[n,c,d,h,w] x, double[n,p,q,r,3] grid) => (double[] y)"
            f' {{ y = GridSample<mode="{mode}",padding_mode="{padding}">(x, grid) }}',
            wrt=("x",),
            feeds={"x": RNG.standard_normal((2, 3, 4, 3, 5)), "grid": PLACES_3D},
            note=f"3-D {mode}, {padding}, sizes known at run time only",
            **ORT_ONLY,
        )
        for mode in ("nearest", "linear")
        for padding in ("zeros", "border", "reflection")
    ),
    case(
        "GridSample",
        "(double[1,2,5,7] x, double[1,3,4,2] grid) => (double[1,2,3,4] y)"
        " <double scale = {0.05}> { g = Mul(grid, scale) y = GridSample(x, g) }",
        wrt=("grid",),
        feeds={"x": np.arange(70.0).reshape(1, 2, 5, 7)},
        note="the grid over a ramp, which is linear in it",
        **ORT_ONLY,
    ),
]

AFFINE_GRID = [
    *(
        case(
            "AffineGrid",
            f"(double[2,2,3] theta) => (double[2,4,5,2] y) <int64[4] size = {{2, 3, 4, 5}}>"
            f" {{ y = AffineGrid<align_corners={align}>(theta, size) }}",
            note=f"align_corners {align}",
            **ORT_ONLY,
        )
        for align in (0, 1)
    ),
    case(
        "AffineGrid",
        "(double[n,3,4] theta, int64[5] size) => (double[n,d,h,w,3] y) { y = AffineGrid(theta, size) }",
        wrt=("theta",),
        feeds={"theta": RNG.standard_normal((2, 3, 4)), "size": [2, 3, 4, 5, 2]},
        note="3-D, sizes known at run time only",
        **ORT_ONLY,
    ),
]

CASES = [*GRID_SAMPLE, *AFFINE_GRID]
