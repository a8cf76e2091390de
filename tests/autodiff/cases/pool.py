"""Poolings: windows that overlap or not, counts that differ, sizes known at run time only."""

import numpy as np
from support.derivatives import case

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def spaced(*shape):
    """Return values so far apart, and from 0, that no step on the way of the differences changes their order."""
    return RNG.permutation(4.0 * np.arange(np.prod(shape)) - 126).reshape(shape)


# The reference evaluator pads wrongly (sizes, indices). Averages are linear, and so is a maximum whose place stays.
ORT_ONLY = {"runtimes": ("ort",), "numeric": "ort"}

MAX = [
    case(
        "MaxPool",
        "(double[2,3,7,8] x) => (double[2,3,3,3] y) { y = MaxPool<kernel_shape=[3,3],strides=[2,2]>(x) }",
        note="windows that overlap",
    ),
    case(
        "MaxPool",
        "(double[2,3,4,6] x) => (double[2,3,2,2] y) { y = MaxPool<kernel_shape=[2,3],strides=[2,3]>(x) }",
        note="windows that tile the input",
    ),
    case(
        "MaxPool",
        "(double[2,3,5,8] x) => (double[2,3,2,2] y) { y = MaxPool<kernel_shape=[2,3],strides=[2,3]>(x) }",
        note="tiles that leave an edge unread",
    ),
    case(
        "MaxPool",
        "(double[2,2,5,8] x) => (double[2,2,3,3] y) { y = MaxPool<kernel_shape=[2,3],strides=[2,3],ceil_mode=1>(x) }",
        note="ceil_mode, tiles that reach beyond the edge",
    ),
    case(
        "MaxPool",
        "(double[2,2,4,6] x) => (double[2,2,2,2] y) { y = MaxPool<kernel_shape=[2,3],strides=[2,3],ceil_mode=1>(x) }",
        note="ceil_mode, nothing beyond the edge",
    ),
    case(
        "MaxPool",
        "(double[1,2,7,6] x) => (double[1,2,4,3] y)"
        " { y = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,0,1,1]>(x) }",
        feeds={"x": spaced(1, 2, 7, 6)},
        note="pads of their own on each side",
        **ORT_ONLY,
    ),
    case(
        "MaxPool",
        "(double[1,2,8,7] x) => (double[1,2,c,d] y)"
        " { y = MaxPool<kernel_shape=[3,2],strides=[3,3],pads=[1,0,1,1],dilations=[2,3],ceil_mode=1>(x) }",
        feeds={"x": spaced(1, 2, 8, 7)},
        note="dilated, a stride above the kernel, pads and beyond",
        **ORT_ONLY,
    ),
    case(
        "MaxPool",
        "(double[2,3,1,1] x) => (double[2,3,1,1] y) { y = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(x) }",
        note="windows mostly of padding",
        **ORT_ONLY,
    ),
    case(
        "MaxPool",
        "(double[n,2,7,8] x) => (double[n,2,c,d] y)"
        " { y = MaxPool<kernel_shape=[3,5],strides=[2,3],pads=[1,2,1,2],ceil_mode=1>(x) }",
        feeds={"x": spaced(2, 2, 7, 8)},
        note="a batch known at run time only",
        **ORT_ONLY,
    ),
    case(
        "MaxPool",
        "(double[1,2,7,7] x) => (double[1,2,5,3] y) { y = MaxPool<kernel_shape=[2,3],dilations=[2,2]>(x) }",
        note="dilated",
    ),
    case(
        "MaxPool",
        "(double[2,2,7,7] x) => (double[2,2,3,3] y)"
        " { y = MaxPool<kernel_shape=[3,3],strides=[2,2],storage_order=1>(x) }",
        note="storage_order turns the indices, not the maximum",
        runtimes=("ort",),
    ),
    case(
        "MaxPool",
        "(double[2,2,7,7] x) => (double[2,2,3,3] y, int64[2,2,3,3] i)"
        " { y, i = MaxPool<kernel_shape=[3,3],strides=[2,2]>(x) }",
        note="the model asks for the indices itself",
    ),
    case(
        "MaxPool",
        "(double[n,2,a,b] x) => (double[n,2,c,d] y)"
        ' { y = MaxPool<kernel_shape=[3,3],strides=[2,2],auto_pad="SAME_LOWER">(x) }',
        feeds={"x": spaced(2, 2, 7, 6)},
        note="SAME_LOWER of sizes known at run time only",
        **ORT_ONLY,
    ),
    case(
        "MaxPool",
        "(double[n,2,a,b] x) => (double[n,2,c,d] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }",
        feeds={"x": spaced(2, 2, 5, 6)},
        note="tiles, sizes known at run time only",
    ),
    case(
        "MaxPool", "(double[2,2,9] x) => (double[2,2,4] y) { y = MaxPool<kernel_shape=[2],strides=[2]>(x) }", note="1-D"
    ),
    case(
        "MaxPool",
        "(double[1,2,4,4,5] x) => (double[1,2,2,2,4] y) { y = MaxPool<kernel_shape=[2,2,2],strides=[2,2,1]>(x) }",
        note="3-D",
    ),
]

AVERAGE = [
    case(
        "AveragePool",
        "(double[2,3,4,6] x) => (double[2,3,2,2] y) { y = AveragePool<kernel_shape=[2,3],strides=[2,3]>(x) }",
        note="tiles",
    ),
    case(
        "AveragePool",
        "(double[2,3,5,8] x) => (double[2,3,2,2] y) { y = AveragePool<kernel_shape=[2,3],strides=[2,3]>(x) }",
        note="tiles that leave an edge unread",
    ),
    case(
        "AveragePool",
        "(double[2,3,5,6] x) => (double[2,3,3,4] y) { y = AveragePool<kernel_shape=[3,3]>(x) }",
        note="stride 1",
    ),
    *(
        case(
            "AveragePool",
            "(double[2,2,6,7] x) => (double[2,2,c,d] y) { y = AveragePool"
            f"<kernel_shape=[3,3],strides=[{stride},{stride}],pads=[1,0,1,2],"
            f"count_include_pad={include},ceil_mode={ceil}>(x) }}",
            note=f"stride {stride}, count_include_pad {include}, ceil_mode {ceil}",
            **ORT_ONLY,
        )
        for stride in (1, 2, 3)
        for include in (0, 1)
        for ceil in (0, 1)
    ),
    case(
        "AveragePool",
        "(double[2,2,8,7] x) => (double[2,2,3,6] y) { y = AveragePool"
        "<kernel_shape=[3,2],strides=[3,1],dilations=[2,3],pads=[1,1,1,1],ceil_mode=1,count_include_pad=1>(x) }",
        note="dilated, beyond the padding",
        **ORT_ONLY,
    ),
    case(
        "AveragePool",
        "(double[2,2,8,7] x) => (double[2,2,6,5] y) { y = AveragePool<kernel_shape=[2,2],dilations=[2,2]>(x) }",
        note="dilated at stride 1",
        **ORT_ONLY,
    ),
    case(
        "AveragePool",
        "(double[2,2,5,4] x) => (double[2,2,3,2] y)"
        " { y = AveragePool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x) }",
        note="ceil_mode without pads",
        **ORT_ONLY,
    ),
    case(
        "AveragePool",
        "(double[2,2,2,4] x) => (double[2,2,1,4] y)"
        " { y = AveragePool<kernel_shape=[3,2],strides=[2,1],pads=[0,0,0,1],count_include_pad=1>(x) }",
        note="a single window, longer than what there is",
        **ORT_ONLY,
    ),
    *(
        case(
            "AveragePool",
            "(double[n,2,a,b] x) => (double[n,2,c,d] y) { y = AveragePool"
            f"<kernel_shape=[3,2],strides=[2,2],{padding},count_include_pad={include}>(x) }}",
            feeds={"x": normal(2, 2, 7, 8)},
            note=f"{padding}, count_include_pad {include}, sizes known at run time only",
            **ORT_ONLY,
        )
        for padding in (
            'auto_pad="SAME_UPPER"',
            'auto_pad="SAME_LOWER"',
            "pads=[1,0,0,1],ceil_mode=1",
            "pads=[1,1,1,1]",
        )
        for include in (0, 1)
    ),
    case(
        "AveragePool",
        "(double[n,2,a,b] x) => (double[n,2,c,d] y) { y = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x) }",
        feeds={"x": normal(2, 2, 7, 8)},
        note="tiles, sizes known at run time only",
    ),
    case(
        "AveragePool",
        "(double[2,2,7] x) => (double[2,2,4] y) { y = AveragePool<kernel_shape=[3],strides=[2],pads=[1,1]>(x) }",
        note="1-D",
        **ORT_ONLY,
    ),
    case(
        "AveragePool",
        "(double[1,2,4,4,5] x) => (double[1,2,2,2,4] y) { y = AveragePool<kernel_shape=[2,2,2],strides=[2,2,1]>(x) }",
        note="3-D",
    ),
]

LP = [
    *(
        case(
            "LpPool",
            f"(double[2,2,6,7] x) => (double[2,2,c,d] y) {{ y = LpPool<kernel_shape=[3,2],strides=[2,2],p={p}>(x) }}",
            note=f"p {p}",
            feeds={"x": spaced(2, 2, 6, 7) / 25},
        )
        for p in (1, 2, 3)
    ),
    case(
        "LpPool",
        "(double[n,2,a,b] x) => (double[n,2,c,d] y) { y = LpPool<kernel_shape=[3,2],strides=[2,2],pads=[1,0,1,0]>(x) }",
        feeds={"x": normal(2, 2, 6, 7)},
        note="pads, sizes known at run time only",
    ),
]

GLOBAL = [
    case("GlobalAveragePool", "(double[2,3,4,5] x) => (double[2,3,1,1] y) { y = GlobalAveragePool(x) }"),
    case(
        "GlobalAveragePool",
        "(double[n,c,a,b] x) => (double[n,c,1,1] y) { y = GlobalAveragePool(x) }",
        note="sizes known at run time only",
    ),
    case("GlobalAveragePool", "(double[2,3,4] x) => (double[2,3,1] y) { y = GlobalAveragePool(x) }", note="1-D"),
    case("GlobalMaxPool", "(double[2,3,4,5] x) => (double[2,3,1,1] y) { y = GlobalMaxPool(x) }"),
    case(
        "GlobalMaxPool",
        "(double[n,c,a,b] x) => (double[n,c,1,1] y) { y = GlobalMaxPool(x) }",
        note="sizes known at run time only",
    ),
    case(
        "GlobalLpPool",
        "(double[2,2,4,5] x) => (double[2,2,1,1] y) { y = GlobalLpPool<p=1>(x) }",
        feeds={"x": spaced(2, 2, 4, 5)},
        note="p 1, the linear one: the reference evaluator has none of them",
        **ORT_ONLY,
    ),
]

UNPOOL = [
    case(
        "MaxUnpool",
        "(double[1,2,2,2] x) => (double[1,2,4,4] y)"
        " <int64[1,2,2,2] i = {0, 3, 9, 14, 17, 18, 28, 31}> { y = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(x, i) }",
    ),
    case(
        "Col2Im",
        "(double[2,12,6] x) => (double[2,2,3,5] y)"
        " <int64[2] image = {3, 5}, int64[2] block = {2, 3}> { y = Col2Im(x, image, block) }",
    ),
    case(
        "Col2Im",
        "(double[n,m,l] x) => (double[n,c,h,w] y) <int64[2] image = {5, 5}, int64[2] block = {2, 3}>"
        " { y = Col2Im<strides=[2,1],dilations=[2,1],pads=[1,0,1,0]>(x, image, block) }",
        feeds={"x": normal(2, 12, 9)},
        note="stride, dilation and pads, sizes known at run time only",
    ),
]

CASES = [*MAX, *AVERAGE, *LP, *GLOBAL, *UNPOOL]
