"""Convolutions: every lowering of the adjoint, and the geometry that decides between them."""

import numpy as np
from support.derivatives import case

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


# The reference evaluator has no grouped ConvTranspose; ConvTranspose is linear in each input, so any step is exact.
ORT_ONLY = {"runtimes": ("ort",), "numeric": "ort"}

CONV = [
    case("Conv", "(double[1,2,7,7] x, double[3,2,3,3] w) => (double[1,3,5,5] y) { y = Conv(x, w) }"),
    case(
        "Conv",
        "(double[2,8,7,6] x, double[3,8,3,2] w, double[3] b) => (double[2,3,7,7] y)"
        " { y = Conv<pads=[1,0,1,2]>(x, w, b) }",
        note="flipped kernel, pads of its own on each side",
    ),
    case(
        "Conv",
        "(double[2,9,5,5] x, double[4,9,1,1] w) => (double[2,4,5,5] y) { y = Conv(x, w) }",
        note="1x1",
    ),
    case(
        "Conv",
        "(double[1,2,8,8] x, double[3,2,3,3] w) => (double[1,3,3,3] y) { y = Conv<strides=[2,2]>(x, w) }",
        note="a stride that leaves the last row of x unread",
    ),
    case(
        "Conv",
        "(double[2,3,11,10] x, double[4,3,2,3] w) => (double[2,4,3,4] y)"
        " { y = Conv<strides=[4,3],pads=[0,1,0,2]>(x, w) }",
        note="a stride above the kernel",
    ),
    case(
        "Conv",
        "(double[1,8,9,9] x, double[2,8,3,3] w) => (double[1,2,7,5] y)"
        " { y = Conv<dilations=[2,2],pads=[1,0,1,0]>(x, w) }",
        note="flipped kernel, dilated",
    ),
    case(
        "Conv",
        "(double[1,2,9,9] x, double[2,2,3,3] w) => (double[1,2,3,4] y)"
        " { y = Conv<dilations=[2,3],strides=[2,1],pads=[0,0,0,1]>(x, w) }",
        note="dilated and strided",
    ),
    case(
        "Conv",
        "(double[1,8,4,4] x, double[2,8,2,2] w) => (double[1,2,9,7] y) { y = Conv<pads=[3,1,3,3]>(x, w) }",
        note="pads beyond the kernel's reach",
    ),
    case(
        "Conv",
        "(double[2,6,5,5] x, double[6,1,3,3] w) => (double[2,6,5,5] y) { y = Conv<group=6,pads=[1,1,1,1]>(x, w) }",
        note="depthwise",
    ),
    case(
        "Conv",
        "(double[2,4,7,8] x, double[4,1,3,5] w) => (double[2,4,4,4] y)"
        " { y = Conv<group=4,strides=[2,2],pads=[1,2,1,2]>(x, w) }",
        note="depthwise with a stride",
    ),
    case(
        "Conv",
        "(double[2,4,8,8] x, double[4,1,3,2] w) => (double[2,4,2,3] y)"
        " { y = Conv<group=4,strides=[2,3],dilations=[2,1]>(x, w) }",
        note="depthwise, dilated, a stride above the kernel",
    ),
    case(
        "Conv",
        "(double[1,4,8,4] x, double[4,1,2,2] w) => (double[1,4,4,2] y)"
        " { y = Conv<group=4,strides=[3,3],pads=[2,1,2,2]>(x, w) }",
        note="depthwise, a stride above the kernel, pads below the begin",
    ),
    case(
        "Conv",
        "(double[2,3,5,5] x, double[6,1,3,3] w) => (double[2,6,5,5] y) { y = Conv<group=3,pads=[1,1,1,1]>(x, w) }",
        note="depthwise with two kernels a channel",
        **ORT_ONLY,
    ),
    case(
        "Conv",
        "(double[2,6,6,5] x, double[4,3,3,3] w) => (double[2,4,3,2] y)"
        " { y = Conv<group=2,strides=[2,2],pads=[1,0,1,0]>(x, w) }",
        note="groups and a stride",
        **ORT_ONLY,
    ),
    case(
        "Conv",
        "(double[1,3,8,7] x, double[2,3,3,3] w) => (double[1,2,4,4] y)"
        ' { y = Conv<strides=[2,2],auto_pad="SAME_UPPER">(x, w) }',
        note="SAME_UPPER",
    ),
    case(
        "Conv",
        "(double[1,3,8,7] x, double[2,3,3,3] w) => (double[1,2,4,4] y)"
        ' { y = Conv<strides=[2,2],auto_pad="SAME_LOWER">(x, w) }',
        note="SAME_LOWER",
    ),
    case(
        "Conv",
        "(double[1,3,8,7] x, double[2,3,3,3] w) => (double[1,2,3,3] y)"
        ' { y = Conv<strides=[2,2],auto_pad="VALID">(x, w) }',
        note="VALID",
    ),
    case(
        "Conv",
        "(double[n,8,a,b] x, double[8,1,3,3] w) => (double[n,8,c,d] y)"
        ' { y = Conv<group=8,strides=[2,2],auto_pad="SAME_UPPER">(x, w) }',
        feeds={"x": normal(2, 8, 7, 6)},
        note="SAME_UPPER of sizes known at run time only",
        **ORT_ONLY,
    ),
    case(
        "Conv",
        "(double[n,3,a,b] x, double[2,3,3,4] w) => (double[n,2,c,d] y)"
        ' { y = Conv<strides=[2,3],auto_pad="SAME_LOWER">(x, w) }',
        feeds={"x": normal(2, 3, 8, 7)},
        note="SAME_LOWER of sizes known at run time only",
    ),
    case(
        "Conv",
        '(double[n,8,a,b] x, double[2,8,2,4] w) => (double[n,2,a,b] y) { y = Conv<auto_pad="SAME_LOWER">(x, w) }',
        feeds={"x": normal(2, 8, 5, 6)},
        note="SAME_LOWER at stride 1",
    ),
    case(
        "Conv",
        "(double[n,3,a,b] x, double[4,3,3,3] w) => (double[n,4,c,d] y)"
        " { y = Conv<strides=[2,2],pads=[1,1,1,1]>(x, w) }",
        feeds={"x": normal(2, 3, 8, 7)},
        note="unread rows of sizes known at run time only",
    ),
    case(
        "Conv",
        "(double[n,3,a,b] x, double[4,3,3,3] w) => (double[n,4,c,d] y) { y = Conv<pads=[1,1,1,1]>(x, w) }",
        feeds={"x": normal(2, 3, 4, 5)},
        note="few channels of sizes known at run time only",
    ),
    case(
        "Conv",
        "(double[n,4,a,b] x, double[m,4,k,l] w) => (double[n,m,c,d] y)"
        " { y = Conv<strides=[2,1],pads=[1,0,0,1]>(x, w) }",
        feeds={"x": normal(2, 4, 8, 7), "w": normal(3, 4, 3, 2)},
        note="a kernel whose size is known at run time only",
    ),
    case(
        "Conv",
        "(double[n,4,a,b] x, double[m,4,k,l] w) => (double[n,m,c,d] y)"
        ' { y = Conv<strides=[2,1],auto_pad="SAME_UPPER">(x, w) }',
        feeds={"x": normal(2, 4, 8, 7), "w": normal(3, 4, 3, 2)},
        note="SAME of a kernel whose size is known at run time only",
    ),
    case("Conv", "(double[2,2,7] x, double[3,2,3] w) => (double[2,3,3] y) { y = Conv<strides=[2]>(x, w) }", note="1-D"),
    case(
        "Conv",
        "(double[1,8,4,5,4] x, double[3,8,2,3,2] w) => (double[1,3,3,5,3] y) { y = Conv<pads=[0,1,0,0,1,0]>(x, w) }",
        note="3-D, flipped",
    ),
    case(
        "Conv",
        "(double[1,2,4,5,4] x, double[3,2,2,3,2] w) => (double[1,3,2,3,3] y) { y = Conv<strides=[2,1,1]>(x, w) }",
        note="3-D",
    ),
    *(
        case(
            "Conv",
            f"(double[2,16,{h},{w}] x, double[16,{16 // group},{k},{m}] w) => (double[2,16,{y},{z}] y)"
            f" {{ y = Conv<group={group},strides=[2,2],pads=[{pads}]>(x, w) }}",
            note=f"in phases: {note}",
            **ORT_ONLY,
        )
        for note, group, (h, w), (k, m), pads, (y, z) in [
            ("3x3", 1, (8, 6), (3, 3), "1,1,1,1", (4, 3)),
            ("padded behind, as TensorFlow does", 1, (8, 6), (3, 3), "0,0,1,1", (4, 3)),
            ("even and odd kernel", 1, (8, 6), (4, 5), "1,2,1,2", (4, 3)),
            ("unread rows", 1, (8, 6), (3, 3), "0,0,0,0", (3, 2)),
            ("a row of taps", 1, (8, 6), (1, 3), "0,1,0,1", (4, 3)),
            ("an odd size, which they do not fit", 1, (7, 6), (3, 3), "1,1,1,1", (4, 3)),
            ("more padding than they can take", 1, (8, 6), (3, 3), "4,4,2,2", (6, 5)),
            ("depthwise", 16, (8, 6), (3, 3), "1,1,1,1", (4, 3)),
            ("depthwise 5x5", 16, (8, 6), (5, 5), "2,2,2,2", (4, 3)),
        ]
    ),
]

TRANSPOSED = [
    case(
        "ConvTranspose",
        "(double[2,3,4,5] x, double[3,2,3,3] w, double[2] b) => (double[2,2,6,7] y) { y = ConvTranspose(x, w, b) }",
    ),
    case(
        "ConvTranspose",
        "(double[2,3,4,5] x, double[3,2,3,2] w) => (double[2,2,8,10] y)"
        " { y = ConvTranspose<strides=[2,2],pads=[1,0,0,0]>(x, w) }",
        note="stride and pads",
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,3] w) => (double[1,2,8,15] y)"
        " { y = ConvTranspose<strides=[2,3],pads=[1,1,1,1],output_padding=[1,2]>(x, w) }",
        note="output_padding",
    ),
    case(
        "ConvTranspose",
        "(double[1,4,4,5] x, double[4,3,3,3] w) => (double[1,6,9,11] y)"
        " { y = ConvTranspose<strides=[2,2],group=2>(x, w) }",
        note="groups",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,2] w) => (double[1,2,10,7] y) { y = ConvTranspose<dilations=[3,2]>(x, w) }",
        note="dilated",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,3] w) => (double[1,2,8,10] y)"
        ' { y = ConvTranspose<strides=[2,2],auto_pad="SAME_UPPER">(x, w) }',
        note="SAME_UPPER",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,3] w) => (double[1,2,8,10] y)"
        ' { y = ConvTranspose<strides=[2,2],auto_pad="SAME_LOWER">(x, w) }',
        note="SAME_LOWER",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[n,3,a,b] x, double[3,2,3,3] w) => (double[n,2,c,d] y)"
        ' { y = ConvTranspose<strides=[2,2],auto_pad="SAME_LOWER">(x, w) }',
        feeds={"x": normal(2, 3, 4, 5)},
        note="SAME_LOWER of sizes known at run time only",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,3] w) => (double[1,2,8,10] y)"
        " { y = ConvTranspose<strides=[2,2],output_shape=[8,10]>(x, w) }",
        note="output_shape",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[1,3,4,5] x, double[3,2,3,3] w) => (double[1,2,7,12] y)"
        ' { y = ConvTranspose<strides=[2,2],output_shape=[7,12],auto_pad="SAME_UPPER">(x, w) }',
        note="output_shape, below and above what the windows cover",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[n,3,a,b] x, double[3,2,3,3] w) => (double[n,2,7,12] y)"
        ' { y = ConvTranspose<strides=[2,2],output_shape=[7,12],auto_pad="SAME_UPPER">(x, w) }',
        feeds={"x": normal(2, 3, 4, 5)},
        note="output_shape for sizes known at run time only",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[n,3,a,b] x, double[3,2,3,3] w) => (double[n,2,8,9] y)"
        " { y = ConvTranspose<strides=[2,2],output_shape=[8,9],pads=[1,1,2,2]>(x, w) }",
        feeds={"x": normal(2, 3, 4, 5)},
        note="output_shape overrules pads",
        **ORT_ONLY,
    ),
    case(
        "ConvTranspose",
        "(double[n,3,a,b] x, double[3,2,3,3] w) => (double[n,2,c,d] y)"
        " { y = ConvTranspose<strides=[2,3],pads=[1,0,1,1],output_padding=[1,0]>(x, w) }",
        feeds={"x": normal(2, 3, 4, 5)},
        note="sizes known at run time only",
    ),
    case(
        "ConvTranspose",
        "(double[2,3,4] x, double[3,2,3] w) => (double[2,2,9] y) { y = ConvTranspose<strides=[2]>(x, w) }",
        note="1-D",
    ),
    case(
        "ConvTranspose",
        "(double[1,3,2,3,2] x, double[3,2,2,3,2] w) => (double[1,2,4,5,3] y)"
        " { y = ConvTranspose<strides=[2,1,1]>(x, w) }",
        note="3-D",
        **ORT_ONLY,
    ),
]

CASES = [*CONV, *TRANSPOSED]
