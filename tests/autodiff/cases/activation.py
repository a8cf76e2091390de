"""Activations, on both sides of their kinks."""

import numpy as np
from support.derivatives import case

rng = np.random.default_rng(2)
WIDE = rng.permutation(np.linspace(-5.03, 5.11, 30)).reshape(5, 6)
PAST_OVERFLOW = np.array([-120.0, -30.0, 30.0, 120.0])


def activation(op_type, attributes="", x=WIDE, dtype="double", **settings):
    """An activation: static, then with sizes known at run time only."""
    shapes = (",".join(map(str, x.shape)), ",".join("abc"[: x.ndim]))
    return [
        case(
            op_type,
            f"({dtype}[{s}] x) => ({dtype}[{s}] y) {{ y = {op_type}{attributes}(x) }}",
            feeds={"x": x},
            **settings,
        )
        for s in shapes
    ]


CASES = [
    *activation("Relu"),
    *activation("LeakyRelu"),
    *activation("LeakyRelu", "<alpha=0.3>"),
    *activation("LeakyRelu", "<alpha=1.5>"),
    *activation("LeakyRelu", "<alpha=-0.5>"),
    case("PRelu", "(double[2,3,4] x, double[3,1] s) => (double[2,3,4] y) { y = PRelu(x, s) }"),
    case("PRelu", "(double[a,b] x, double[1] s) => (double[a,b] y) { y = PRelu(x, s) }"),
    *activation("ThresholdedRelu"),
    *activation("ThresholdedRelu", "<alpha=-1.0>"),
    *activation("Shrink", "<lambd=1.0,bias=0.3>"),
    *activation("Shrink", "<lambd=-1.0>"),
    *activation("HardSigmoid"),
    *activation("HardSigmoid", "<alpha=0.1666667,beta=0.5>"),
    *activation("HardSwish"),
    *activation("Sigmoid"),
    *activation("Sigmoid", x=PAST_OVERFLOW),
    *activation("Softplus"),
    *activation("Softplus", x=PAST_OVERFLOW, runtimes=("ort",), numeric="ort"),
    *activation("Softsign"),
    *activation("Elu"),
    *activation("Elu", "<alpha=0.7>"),
    *activation("Elu", "<alpha=-0.7>"),
    *activation("Selu"),
    *activation("Celu", dtype="float"),
    *activation("Celu", "<alpha=0.7>", dtype="float"),
    *activation("Celu", "<alpha=-0.7>", dtype="float", runtimes=("ort",)),
    *activation("Swish", opset=24),
    *activation("Swish", "<alpha=1.7>", opset=24),
    *activation("Mish"),
    *activation("Gelu", step=1e-2, rtol=1e-3),
    *activation("Gelu", '<approximate="tanh">'),
]
