"""Regions of interest: inside, outside, larger than X, empty and turned inside out."""

import numpy as np
from support.derivatives import case

REGIONS = "{0.5, 1, 6, 5.5,  1, 0, 20, 17,  3, 3, 3, 3,  -6, -7, 4, 30,  5, 5, 2, 1}"
X = np.random.default_rng(0).standard_normal((2, 2, 8, 9))


def aligned(shape, attributes, **settings):
    text = (
        f"(double[{shape}] x) => (double[r,c,3,2] y) <double[5,4] rois = {REGIONS}, int64[5] batch = {{0, 1, 1, 0, 1}}>"
        f" {{ y = RoiAlign<output_height=3,output_width=2,{attributes}>(x, rois, batch) }}"
    )
    return case("RoiAlign", text, **settings)


CASES = [
    *(
        aligned(
            "2,2,8,9",
            f'mode="{mode}",sampling_ratio={ratio},spatial_scale=0.75,coordinate_transformation_mode="{coordinates}"',
            note=f"{mode}, sampling_ratio {ratio}, {coordinates}",
        )
        for mode in ("avg", "max")
        for ratio in (0, 2)
        for coordinates in ("half_pixel", "output_half_pixel")
    ),
    *(
        aligned("n,c,h,w", f'mode="{mode}"', feeds={"x": X}, note=f"{mode}, sizes known at run time only")
        for mode in ("avg", "max")
    ),
    case(
        "RoiAlign",
        "(double[1,2,4,4] x) => (double[1,2,2,2] y)"
        " <double[1,4] rois = {0, 0, 3, 3}, int64[1] batch = {0}, double scale = {0}>"
        " { zero = ReduceSum<keepdims=0>(x) shift = Mul(zero, scale) moved = Add(rois, shift)"
        " y = RoiAlign<output_height=2,output_width=2>(x, moved, batch) }",
        note="regions computed from x are held fast",
    ),
    *[
        case(
            "MaxRoiPool",
            f"(double[{shape}] x, double[r,5] b) => (double[r,2,3,2] y) "
            f"{{ y = MaxRoiPool<pooled_shape=[3,2], spatial_scale={scale}>(x, b) }}",
            feeds={
                "x": np.random.default_rng(2).permutation(2 * 2 * 6 * 7).reshape(2, 2, 6, 7) / 10.0,
                # Within; beyond the edge, with a bin of nothing; a single entry; inside out.
                "b": np.array([[1, 0, 1, 5, 4], [0, 4, 3, 9, 8], [1, 2, 2, 2, 2], [0, 5, 4, 2, 1]]) + 0.1,
            },
            runtimes=("ort",),
            numeric="ort",
            step=0.01,
            rtol=2e-3,  # what float32 leaves of numbers up to 17 at this step
            note=f"{shape}, scaled by {scale}",
        )
        for shape, scale in (("2,2,6,7", 1.0), ("n,c,h,w", 0.8))
    ],
]
