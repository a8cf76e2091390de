"""Read classes out of a model's output."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.explanation.explanation import Prediction
from onnxsal.explanation.regions import pixel_probabilities, pixel_scores, summed
from onnxsal.model.card import Card
from onnxsal.targets import Target

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


def target_scores(
    output: Array,
    head: Mapping[str, Any],
    targets: Sequence[Target],
    masks: Sequence[npt.NDArray[np.float32] | None],
    *,
    probability: bool,
    logits: bool = False,
) -> npt.NDArray[np.float32]:
    """Return the targets' scores (N, T), of a class output.

    Args:
        output: The model's output that has the classes.
        head: `Findings.summary()`.
        targets: T of them, their classes settled.
        masks: For each, over which pixels a map of classes is summed, (1, H, W); None takes the mean over all.
        probability: Take probabilities whatever the targets say.
        logits: Where the model ends in probabilities, take what these are made of.
    """
    columns = []
    for target, mask in zip(targets, masks, strict=True):
        likely = probability or target.form.kind == "probability"
        if mask is None:
            table = class_scores(output, head)[likely]
            table = _to_logits(table, head["activation"]) if logits and not likely else table
            own, other = table[:, target.index], None if target.minus is None else table[:, target.minus]
        else:
            planes = pixel_scores(output, head)
            planes = pixel_probabilities(planes, head) if likely else planes
            own = summed(planes, mask, target.index)
            other = None if target.minus is None else summed(planes, mask, target.minus)
        columns.append(own if other is None else own - other)
    return np.stack(columns, axis=1).astype(np.float32)


def _to_logits(scores: Array, activation: str | None) -> Array:
    """Return what an activation made scores of; of a softmax up to a number that all classes share."""
    if activation not in ("softmax", "sigmoid"):
        return scores
    least = np.finfo(np.float32).tiny
    own = np.log(np.maximum(scores, least))
    return own if activation == "softmax" else own - np.log(np.maximum(1 - scores, least))
