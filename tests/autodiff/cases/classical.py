"""Operators of ai.onnx.ml."""

import numpy as np
from support.derivatives import case

# Neither is in the reference evaluator in double; both are linear.
IN_ORT = {"runtimes": ("ort",), "numeric": "ort", "step": 0.1}
CASES = [
    case(
        "ArrayFeatureExtractor",
        "(double[2,4] x, int64[3] i) => (double[2,3] y) { y = ai.onnx.ml.ArrayFeatureExtractor(x, i) }",
        feeds={"i": np.array([3, 0, 3])},
        **IN_ORT,
    ),
    case(
        "Scaler",
        "(double[2,3] x) => (float[2,3] y) "
        "{ y = ai.onnx.ml.Scaler<offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, -1.0]>(x) }",
        **IN_ORT,
    ),
    *[
        case(
            op_type,
            f"(double[2,3] x) => (double[2,3] y) {{ m = ai.onnx.ml.{op_type}<{attributes}>(x) y = Mul(m, x) }}",
            feeds={"x": np.array([[0.1, 0.9, 2.0], [0.8, -1.0, 0.0]])},
            **(IN_ORT | {"step": 0.01, "rtol": 1e-3}),
        )
        for op_type, attributes in (
            ("Binarizer", "threshold=0.5"),
            (
                "TreeEnsemble",
                (
                    "n_targets=1, tree_roots=[0], nodes_featureids=[0], nodes_modes=uint8[1] {0}, "
                    "nodes_splits=double[1] {0.5}, nodes_truenodeids=[0], nodes_trueleafs=[1], nodes_falsenodeids=[1], "
                    "nodes_falseleafs=[1], leaf_targetids=[0, 0], leaf_weights=double[2] {1, 2}"
                ),
            ),
        )
    ],
]
