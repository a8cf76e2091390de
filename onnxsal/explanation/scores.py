"""Read classes out of a model's output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.explanation.explanation import Prediction
from onnxsal.model.card import Card

Array = npt.NDArray[Any]


def class_scores(output: Array, head: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return (N, K) scores as the model outputs them, and (N, K) probabilities.

    What lies beside the class axis (a segmentation's pixels) is averaged.

    Args:
        output: The model's output that has the classes.
        head: `Findings.summary()`.
    """
    axis = head["output_class_axis"]
    rows = np.moveaxis(output, axis, 1).reshape(output.shape[0], output.shape[axis], -1)
    scores = rows.astype(np.float64).mean(axis=2)
    activation = head["activation"]
    if output.dtype.kind in "iu":  # quantised: ONNX Runtime gives steps of a probability
        scores = (scores - (head.get("output_zero_point") or 0)) * (head.get("output_scale") or 1.0)
    if activation in ("softmax", "sigmoid"):
        return scores, scores
    if activation == "log-softmax":
        return scores, np.exp(scores)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores, powers / powers.sum(axis=1, keepdims=True)


def to_predictions(scores: Array, probabilities: Array, top: int, card: Card) -> tuple[Prediction, ...]:
    """Return the `top` classes of one sample, best first."""
    order = np.argsort(-scores, kind="stable")[: max(top, 0)]
    return tuple(Prediction(int(i), card.label_of(int(i)), float(scores[i]), float(probabilities[i])) for i in order)
