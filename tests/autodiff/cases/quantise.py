"""Quantisation, so fine that a difference sees through the rounding: steps of 2^-12 against one of 1/2."""

import numpy as np
from support.derivatives import case

STRAIGHT = {"runtimes": ("ort",), "numeric": "ort", "step": 0.5, "rtol": 5e-3}
SCALE = "s = Constant<value=float {0.000244140625}>() z = Constant<value=uint16 {32768}>()"

INTEGERS = np.random.default_rng(9).integers(0, 256, (5, 6)).astype(np.uint8)

CASES = [
    case(
        "QuantizeLinear",
        f"(double[3,4] x) => (float[3,4] y) {{ {SCALE} f = Cast<to=1>(x) q = QuantizeLinear(f, s, z)"
        " y = DequantizeLinear(q, s, z) }",
        note="straight through",
        **STRAIGHT,
    ),
    case(
        "DequantizeLinear",
        f"(double[3,4] x) => (float[3,4] y) {{ {SCALE} f = Cast<to=1>(x) q = QuantizeLinear(f, s, z)"
        " t = Constant<value=float {0.000732421875}>() y = DequantizeLinear(q, t, z) }",
        note="read by three times the scale it was quantised by",
        **STRAIGHT,
    ),
    case(
        "DequantizeLinear",
        "(double[3,4] x, double t) => (float[3,4] y) { c = Constant<value=float {0.00002}>() f = Cast<to=1>(x)"
        f" {SCALE} g = Cast<to=1>(t) d = Mul(g, c) r = Add(s, d) q = QuantizeLinear(f, r, z)"
        " y = DequantizeLinear(q, r, z) }",
        feeds={"t": np.array(0.0)},
        note="a scale of a tenth more makes other roundings, not other numbers",
        **STRAIGHT,
    ),
    *[
        case(
            "DequantizeLinear",
            f"(uint8[5,6] q, double{shape} s, uint8{shape} z) => (float[5,6] y) "
            f"{{ f = Cast<to=1>(s) y = DequantizeLinear{attributes}(q, f, z) }}",
            feeds={"q": INTEGERS, "z": INTEGERS.ravel()[: np.prod(sizes, dtype=int)].reshape(sizes)},
            **(STRAIGHT | {"rtol": 1e-4}),
            note=f"with respect to the scale, {attributes or 'one for all'}",
        )
        for shape, sizes, attributes in (
            ("", (), ""),
            ("[6]", (6,), "<axis=-1>"),
            ("[5,3]", (5, 3), "<axis=1, block_size=2>"),
            ("[3,6]", (3, 6), "<axis=0, block_size=2>"),
        )
    ],
    case(
        "DynamicQuantizeLinear",
        "(double[3,400] x) => (float[3,400] y) { f = Cast<to=1>(x) q, s, z = DynamicQuantizeLinear(f)"
        " y = DequantizeLinear(q, s, z) }",
        **(STRAIGHT | {"rtol": 0.05}),
        note="256 steps from the smallest to the largest",
    ),
]
