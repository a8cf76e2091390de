"""Normalisations."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(5)


# For what the reference evaluator gets wrong: differences of a smooth function in float32.
SMOOTH_IN_ORT = {"runtimes": ("ort",), "numeric": "ort", "step": 1e-2, "rtol": 1e-3}


def batch_norm(shape, attributes="", outputs="y", **settings):
    said = ",".join(map(str, shape))
    return case(
        "BatchNormalization",
        f"(double[{said}] x, double[3] s, double[3] b, double[3] m, double[3] v) => (double[{said}] y) "
        f"{{ {outputs} = BatchNormalization{attributes}(x, s, b, m, v) }}",
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
    *[
        batch_norm(
            shape,
            "<training_mode=1>",
            "y, mean, var",
            wrt=("x", "s", "b"),
            step=1e-3,
            rtol=1e-4,
            note=f"in training, {shape}",
        )
        for shape in ((2, 3, 4, 5), ("n", 3, "h", "w"))
    ],
    *[
        case(
            "BatchNormalization",
            f"(double[{shape}] x, double[3] s, double[3] b, double[3] m, double[3] v) => (double[{shape}] y) {{ "
            "n, mean, var = BatchNormalization<training_mode=1, momentum=0.7>(x, s, b, m, v) "
            "mv = Mul(mean, var) y = Add(n, mv) }",
            step=1e-3,
            rtol=1e-4,
            note=f"in training, its running statistics read, {shape}",
        )
        for shape in ("2,3,4,3", "n,c,h,3")
    ],
    layer_norm((2, 3, 4), (4,)),
    layer_norm((2, 3, 4), (4,), "<epsilon=0.1>", bias=False),
    layer_norm((2, 3, 4), (3, 4), "<axis=1>"),
    layer_norm((2, 3, 4), (2, 3, 4), "<axis=-3>"),
    layer_norm(("a", "b", "c"), ("c",)),
    layer_norm(("a", "b", "c"), ("b", "c"), "<axis=-2>"),
    *[
        case(
            "LayerNormalization",
            f"(float[{shape}] x, float[{shape[-1]}] s) => (float[{shape}] y) "
            "{ n, m, d = LayerNormalization(x, s) a = Add(n, m) y = Mul(a, d) }",
            feeds={"x": rng.standard_normal((2, 3, 8)), "s": rng.standard_normal(8)},
            **SMOOTH_IN_ORT,
            note=f"all three outputs used, {shape}; in float32, as the statistics are",
        )
        for shape in ("2,3,8", "a,b,c")
    ],
    *[
        case(
            "InstanceNormalization",
            f"(double[{shape}] x, double[3] s, double[3] b) => (double[{shape}] y) "
            f"{{ y = InstanceNormalization{attributes}(x, s, b) }}",
        )
        for shape, attributes in (("2,3,4,5", ""), ("2,3,6", "<epsilon=0.1>"), ("n,3,h,w", ""))
    ],
    *[
        case(
            "GroupNormalization",
            f"(double[{shape}] x, double[6] s, double[6] b) => (double[{shape}] y) "
            f"{{ y = GroupNormalization<num_groups={groups}>(x, s, b) }}",
            feeds={"x": rng.standard_normal(size)},
            step=1e-3,
            rtol=1e-4,
            note=f"{shape} in {groups} groups",
        )
        for shape, groups, size in (
            ("2,6,4,5", 2, (2, 6, 4, 5)),
            ("2,6,9", 6, (2, 6, 9)),
            ("n,6,h,w", 3, (2, 6, 2, 3)),
            ("n,c,h,w", 1, (2, 6, 2, 3)),
        )
    ],
    *[
        case(
            "RMSNormalization",
            f"(double[{shape}] x, double[{scale}] s) => (double[{shape}] y) "
            f"{{ y = RMSNormalization{attributes}(x, s) }}",
            opset=23,
        )
        for shape, scale, attributes in (
            ("2,3,4", "4", ""),
            ("2,3,4", "3,4", "<axis=1,epsilon=0.1>"),
            ("a,b,c", "c", "<axis=-1>"),
        )
    ],
    # The reference evaluator's LRN is right only where there are as many samples as channels.
    *[
        case(
            "LRN",
            f"(double[{shape}] x) => (double[{shape}] y) {{ y = LRN<size={size},alpha=0.5,beta=0.6,bias=1.5>(x) }}",
            feeds={"x": rng.standard_normal((5, 5, 2, 3))},
            runtimes=("reference", "ort") if size % 2 else ("reference",),
            note=f"size {size} of {shape}",
        )
        for shape in ("5,5,2,3", "n,c,h,w")
        for size in (1, 2, 3, 4, 5, 9)
    ],
    *[
        case(
            "LpNormalization",
            f"(double[{shape}] x) => (double[{shape}] y) {{ y = LpNormalization<p={p},axis={axis}>(x) }}",
            feeds={"x": x},
            **settings,
        )
        for shape, axis in (("2,5", -1), ("2,5", 0), ("a,b", 1))
        for p, x, settings in (
            (2, rng.standard_normal((2, 5)), {}),
            (1, rng.uniform(0.2, 1.0, (2, 5)), {}),
            # The reference evaluator adds up without taking absolute values.
            (1, rng.uniform(0.2, 1.0, (2, 5)) * [1, -1, 1, -1, -1], SMOOTH_IN_ORT),
        )
    ],
    *[
        case(
            "MeanVarianceNormalization",
            f"(double[{shape}] x) => (double[{shape}] y) {{ y = MeanVarianceNormalization{attributes}(x) }}",
            feeds={"x": rng.standard_normal((2, 3, 4, 5))},
            **SMOOTH_IN_ORT,
        )
        for shape, attributes in (
            ("2,3,4,5", "<axes=[0,2,3]>"),
            ("2,3,4,5", "<axes=[1,2,3]>"),
            ("2,3,4,5", "<axes=[-1]>"),
            ("n,c,h,w", "<axes=[2,3]>"),
        )
    ],
]
