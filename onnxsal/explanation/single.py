"""Explain by one run of an explainer: what it gives for some images and one target, as explanations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import OnnxsalError
from onnxsal.explanation.explanation import Explanation
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.regions import has_pixels, nowhere, predicted
from onnxsal.explanation.runs import ExplainerRun
from onnxsal.explanation.scores import class_scores, to_predictions
from onnxsal.methods.registry import Method
from onnxsal.model.card import Card
from onnxsal.targets import TOP, Target

Array = npt.NDArray[Any]


def explain_target(
    run: ExplainerRun,
    target: Target,
    samples: Sequence[Sample],
    name: str,
    method: Method,
    card: Card,
    provenance: Mapping[str, str],
) -> list[Explanation]:
    """Return an explanation of each sample.

    Args:
        run: The explainer, and the samples as its inputs.
        target: What is explained.
        samples: The samples.
        name: Name of the method.
        method: It, with its settings.
        card: Says the labels.
        provenance: What explanations say of where they come from.

    Raises:
        OnnxsalError: The model overflows on a sample.
    """
    index = run.ranked(target.rank) if target.rank else np.full(len(samples), target.index, np.int64)
    results, facts = run(index, target.minus), run.explainer.facts
    tables: tuple[Array, Array] | None = None
    if facts["findings"].get("class_output"):
        tables = class_scores(results[facts["findings"]["class_output"]], facts["findings"])
    settings = vars(method) | ({"layer": facts["layer"]} if facts["layer"] else {})
    found = []
    for i, sample in enumerate(samples):
        row = None if tables is None else (tables[0][i], tables[1][i])
        chosen, label = _settle(target, int(index[i]), row, card)
        attribution = results["attribution"][i]
        if not np.isfinite(attribution).all():
            raise OnnxsalError(
                f"{name} of {sample.name} has values that are not finite: the model itself overflows on this image"
            )
        if target.form.pixels == "predicted":
            _check_predicted(target.resolved(chosen, label), results, facts["findings"], i)
        as_output = row is not None and target.form.kind == "logit" and target.form.pixels == "all"
        found.append(
            Explanation(
                attribution=attribution,
                heatmap=sample.placement.to_photo(results["saliency_map"][i]),
                target=target.resolved(chosen, label),
                score=float(row[0][chosen]) if as_output and row is not None else float(results["target_score"][i]),
                method=name,
                settings=settings,
                predictions=() if row is None else to_predictions(*row, 5, card),
                provenance=provenance,
                photo=sample.photo,
                name=sample.name,
            )
        )
    return found


def _settle(target: Target, index: int, row: tuple[Array, Array] | None, card: Card) -> tuple[int, str | None]:
    """Return the class that is explained, with its label; of a neuron, the channel."""
    if row is None or target.form.kind == "neuron":
        return index, None
    chosen = int(row[0].argmax()) if index == TOP else index
    return chosen, card.label_of(chosen)


def _check_predicted(target: Target, results: Mapping[str, Array], head: Mapping[str, Any], row: int) -> None:
    """Refuse a class that no pixel is predicted as, of which nothing is to be seen."""
    output = results[head["class_output"]][row : row + 1]
    if has_pixels(output, head) and not predicted(output, head, target.index).any():
        raise nowhere(target)
