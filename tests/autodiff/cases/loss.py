"""Losses over classes: each reduction, weights or none, places that are ignored, sizes known or not."""

import numpy as np
from support.derivatives import case

CLASSES = {2: np.array([2, 0, 1]), 3: np.array([[2, 0, 1, 1], [0, 1, 1, 2], [2, 2, 0, 1]])}
WEIGHTS = np.array([0.5, 1.5, 2.0])


def loss(op_type, x, y, attributes, *, weights="", outputs="y", **settings):
    n = 2 if x.count(",") == 1 else 3
    parameter, value = (", double[3] w", ", w") if weights else ("", "")
    target = ",".join(d for i, d in enumerate(x.split(",")) if i != 1)
    return case(
        op_type,
        f"(double[{x}] x, int64[{target}] t{parameter}) => (double{y} y) "
        f"{{ {outputs} = {op_type}<{attributes}>(x, t{value}) }}",
        feeds={"x": np.random.default_rng(8).standard_normal((3, 3, 4)[:n]), "t": CLASSES[n], "w": WEIGHTS},
        **settings,
    )


CASES = [
    made
    for op_type in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    for made in (
        loss(op_type, "3,3", "", 'reduction="mean"'),
        loss(op_type, "3,3", "", 'reduction="mean"', weights="w"),
        loss(op_type, "3,3", "[3]", 'reduction="none"', weights="w"),
        loss(op_type, "3,3,4", "", 'reduction="sum"', weights="w"),
        loss(op_type, "3,3,4", "[3,4]", 'reduction="none", ignore_index=1', weights="w"),
        loss(op_type, "3,3,4", "", 'reduction="mean", ignore_index=1', weights="w"),
        loss(op_type, "n,c,l", "", 'reduction="mean"', weights="w"),
    )
] + [
    case(
        "SoftmaxCrossEntropyLoss",
        "(double[3,3] x, int64[3] t) => (double[3,3] y) { l, p = SoftmaxCrossEntropyLoss(x, t) y = Add(l, p) }",
        feeds={"t": CLASSES[2]},
        note="its second output read as well",
    ),
]
