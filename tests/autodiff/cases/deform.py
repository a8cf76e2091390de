"""Deformable convolution."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(3)


def deform(attributes, shapes, feeds=None, **settings):
    said = ", ".join(f"double[{s}] {n}" for n, s in shapes.items())
    read = ", ".join(n if n in shapes else "" for n in ["x", "w", "o", "b", "m"][: 5 if "m" in shapes else len(shapes)])
    operator = f"DeformConv<{attributes}>" if attributes else "DeformConv"
    text = f"({said}) => (double[n,o,h,w] y) {{ y = {operator}({read}) }}"
    # The reference evaluator rounds offsets to float32.
    return case("DeformConv", text, feeds=feeds or {}, runtimes=("ort",), numeric="ort double", **settings)


SMALL = {"x": "2,4,5,6", "w": "3,4,2,3", "o": "2,12,4,4"}
GROUPS = {"x": "2,4,7,8", "w": "6,2,3,3", "o": "2,36,3,4", "b": "6", "m": "2,18,3,4"}
STRIDED = "strides=[2,2],pads=[1,0,0,2]"

CASES = [
    deform("", SMALL, note="plain"),
    deform("", SMALL | {"m": "2,6,4,4"}, note="a mask, and no bias"),
    deform(f"group=2,offset_group=2,{STRIDED}", GROUPS, note="groups, mask, bias, strides, pads"),
    deform(f"group=2,{STRIDED}", GROUPS | {"o": "2,18,3,4", "m": "2,9,3,4"}, note="groups of W alone"),
    deform(
        f"offset_group=4,{STRIDED}", GROUPS | {"w": "6,4,3,3", "o": "2,72,3,4", "m": "2,36,3,4"}, note="each channel"
    ),
    deform("dilations=[2,1],kernel_shape=[2,3]", SMALL | {"o": "2,12,3,4"}, note="dilations"),
    deform(
        f"group=2,offset_group=2,{STRIDED}",
        {"x": "n,c,h,w", "w": "o,i,k,l", "o": "n,p,q,r", "b": "o", "m": "n,s,q,r"},
        {n: rng.standard_normal([int(d) for d in s.split(",")]) for n, s in GROUPS.items()},
        note="sizes known at run time only",
    ),
]
