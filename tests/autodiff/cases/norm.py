"""Normalisations."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(5)


def batch_norm(shape, attributes="", **settings):
    said = ",".join(map(str, shape))
    return case(
        "BatchNormalization",
        f"(double[{said}] x, double[3] s, double[3] b, double[3] m, double[3] v) => (double[{said}] y) "
        f"{{ y = BatchNormalization{attributes}(x, s, b, m, v) }}",
        feeds={"v": rng.uniform(0.5, 2.0, 3)},
        **settings,
    )


def layer_norm(shape, scale, attributes="", bias=True, **settings):
    said, parameters = ",".join(map(str, shape)), ",".join(map(str, scale))
    return case(
        "LayerNormalization",
        f"(double[{said}] x, double[{parameters}] s{f', double[{parameters}] b' if bias else ''}) => "
        f"(double[{said}] y) {{ y = LayerNormalization{attributes}(x, s{', b' if bias else ''}) }}",
        **settings,
    )


CASES = [
    batch_norm((2, 3, 4, 5)),
    batch_norm((2, 3), "<epsilon=0.1>"),
    batch_norm(("n", 3, "h", "w")),
    layer_norm((2, 3, 4), (4,)),
    layer_norm((2, 3, 4), (4,), "<epsilon=0.1>", bias=False),
    layer_norm((2, 3, 4), (3, 4), "<axis=1>"),
    layer_norm((2, 3, 4), (2, 3, 4), "<axis=-3>"),
    layer_norm(("a", "b", "c"), ("c",)),
    layer_norm(("a", "b", "c"), ("b", "c"), "<axis=-2>"),
]
