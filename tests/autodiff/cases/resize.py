"""Resize: every mode, up and down, scales and sizes, axes, sizes known at run time only."""

import numpy as np
from support.derivatives import case

# ONNX Runtime computes the differences too: the reference evaluator departs from it in some modes,
# and Resize is linear, so any step is exact.
ORT_ONLY = {"runtimes": ("ort",), "numeric": "ort"}

MODES = [
    *(f'mode="nearest",nearest_mode="{n}"' for n in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")),
    'mode="linear"',
    'mode="linear",antialias=1',
    'mode="cubic"',
    'mode="cubic",antialias=1',
    'mode="cubic",exclude_outside=1',
    'mode="cubic",cubic_coeff_a=-0.5',
]
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
X = np.random.default_rng(0).standard_normal((2, 3, 5, 6))


def resized(attributes, *, scales=None, sizes=None, shape="1,2,5,6", more="", **settings):
    """Return a case of Resize by constant scales or sizes, of an x whose shape is given as numbers or names."""
    given = f"float[{len(scales)}] s = {{{','.join(map(str, scales))}}}" if scales else ""
    given = f"int64[{len(sizes)}] s = {{{','.join(map(str, sizes))}}}" if sizes else given
    inputs = "x, , s" if scales else "x, , , s"
    text = f"(double[{shape}] x) => (double[] y) <{given}{more}> {{ y = Resize<{attributes}>({inputs}) }}"
    if not shape[0].isdigit():
        settings["feeds"] = {"x": X}
    return case("Resize", text, **settings)


EVERY_MODE = [
    resized(f'{mode},coordinate_transformation_mode="{coordinates}"', scales=scales, **ORT_ONLY)
    for mode in MODES
    for coordinates in COORDINATES
    for scales in ([1, 1, 2, 3], [1, 1, 0.6, 0.5], [1, 1, 1.7, 1])
]

SPECIAL = [
    resized('mode="nearest"', scales=[1, 1, 2, 3], note="whole scales repeat"),
    resized('mode="nearest"', sizes=[1, 2, 10, 18], note="whole scales, said as sizes"),
    resized('mode="nearest"', scales=[2, 1, 1, 3], note="nearest along the batch", **ORT_ONLY),
    resized('mode="nearest"', scales=[1, 1, 1, 1], note="nothing resized"),
    resized(
        'mode="nearest",coordinate_transformation_mode="asymmetric"', scales=[1, 1, 2.4, 1], note="not quite whole"
    ),
    resized('mode="linear"', scales=[1, 1, 1.1, 1.1], note="a scale that leaves the size as it was", **ORT_ONLY),
    resized('mode="linear"', sizes=[1, 2, 9, 4], note="by sizes"),
    resized('mode="linear",axes=[3,2]', sizes=[4, 9], note="axes, in an order of their own", **ORT_ONLY),
    resized('mode="linear",axes=[-1]', scales=[1.5], note="a negative axis", **ORT_ONLY),
    resized('mode="linear"', scales=[1, 1, 2, 3], shape="n,c,h,w", note="scales, at run time", **ORT_ONLY),
    resized('mode="linear"', sizes=[2, 3, 9, 4], shape="n,c,h,w", note="sizes, at run time", **ORT_ONLY),
    resized('mode="nearest"', scales=[1, 1, 2, 3], shape="n,c,h,w", note="repeats at run time", **ORT_ONLY),
    resized('mode="nearest"', scales=[1, 1.5, 2, 3], shape="n,c,h,w", note="channels at run time", **ORT_ONLY),
    resized('mode="linear"', scales=[1, 1, 2], shape="2,3,5", note="1-D", **ORT_ONLY),
    resized('mode="linear"', scales=[1, 1, 2, 0.5, 1.3], shape="1,2,3,4,5", note="3-D", **ORT_ONLY),
    resized('mode="nearest"', scales=[1, 1, 2, 2, 1], shape="1,2,3,4,5", note="3-D, repeated", **ORT_ONLY),
    resized('mode="cubic"', scales=[2, 0.5], shape="5,6", note="2-D without batch and channels", **ORT_ONLY),
    resized('mode="linear"', scales=[1, 2, 0.5, 1], shape="1,5,6,2", note="channels last", **ORT_ONLY),
    *(
        resized(
            f'mode="{mode}",keep_aspect_ratio_policy="{policy}",axes=[2,3]',
            sizes=[9, 8],
            shape=shape,
            note=f"{mode}, {policy} of {shape}",
            **ORT_ONLY,
        )
        for mode in ("linear", "nearest")
        for policy in ("not_larger", "not_smaller")
        for shape in ("2,3,5,6", "n,c,h,w")
    ),
    case(
        "Resize",
        "(double[1,2,5,6] x) => (double[] y) <double[8] roi = {0, 0, 0.2, -0.3, 1, 1, 0.7, 1.4}, "
        'int64[4] s = {1, 2, 4, 7}> { y = Resize<mode="linear",'
        'coordinate_transformation_mode="tf_crop_and_resize",extrapolation_value=9.0>'
        "(x, roi, , s) }",
        note="a crop that reaches outside",
        **ORT_ONLY,
    ),
    case(
        "Resize",
        "(double[1,2,5,6] x, double[4] roi) => (double[] y) <int64[2] s = {5, 6}>"
        ' { y = Resize<mode="linear",coordinate_transformation_mode="tf_crop_and_resize",axes=[2,3]>(x, roi, , s) }',
        wrt=("x",),
        feeds={"roi": [0.1, 0.2, 0.8, 0.7]},
        note="a crop known at run time, to the size that was",
        **ORT_ONLY,
    ),
    case(
        "Resize",
        "(double[n,c,h,w] x, int64[2] size) => (double[] y)"
        ' { s = Shape<start=0,end=2>(x) sizes = Concat<axis=0>(s, size) y = Resize<mode="linear">(x, , , sizes) }',
        wrt=("x",),
        feeds={"x": X, "size": [7, 4]},
        note="sizes computed by the model",
        **ORT_ONLY,
    ),
    case(
        "Resize",
        '(double[n,c,h,w] x, float[2] scale) => (double[] y) { y = Resize<mode="linear",axes=[2,3]>(x, , scale) }',
        wrt=("x",),
        feeds={"x": X, "scale": np.array([1.5, 0.7])},
        note="scales computed by the model",
        **ORT_ONLY,
    ),
    case(
        "Resize",
        "(double[1,2,5,6] x) => (double[] y) <float[0] none = {}, int64[4] s = {1,2,7,9}>"
        ' { y = Resize<mode="linear">(x, none, none, s) }',
        note="empty scales beside sizes, as TorchScript leaves them",
    ),
    case(
        "Resize",
        '(double[1,2,5,6] x) => (double[] y) <float[4] s = {1, 1, 2, 2.5}> { y = Upsample<mode="linear">(x, s) }',
        opset=9,
        note="Upsample of opset 9",
        **ORT_ONLY,
    ),
]

CASES = [*EVERY_MODE, *SPECIAL]
