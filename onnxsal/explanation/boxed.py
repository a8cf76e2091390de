"""Explain detections by gradients: what a detector finds first, then why, one proposal at a time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detection, Detections
from onnxsal.errors import OnnxsalError
from onnxsal.explanation.detecting import choose, detect, on_photo
from onnxsal.explanation.explanation import Explanation
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.subject import Sessions
from onnxsal.methods.registry import Method
from onnxsal.targets import Form, Target

if TYPE_CHECKING:
    from onnxsal.methods.detector import Reading

Array = npt.NDArray[Any]
THRESHOLD, OVERLAP = 0.3, 0.5


def explain_boxes(
    model: Sessions, sample: Sample, targets: Sequence[Target], method: Method, frame: Explanation
) -> list[Explanation]:
    """Return the explanations of the detections that are meant.

    Args:
        model: The model's sessions.
        sample: The photo.
        targets: Which detections, and of which part of them.
        method: The method, of one graph.
        frame: What all explanations have in common.
    """
    found, reading = detect(model, sample, None, THRESHOLD, OVERLAP)
    named = on_photo(found, sample, model)
    part = next((t.form.part for t in targets if t.form.kind == "box"), "score")
    return [
        _explain(model, sample, found, reading, named[number], part, method, frame)
        for number in choose(targets, named, THRESHOLD)
    ]


def _explain(
    model: Sessions,
    sample: Sample,
    found: Detections,
    reading: "Reading",
    detection: Detection,
    part: str,
    method: Method,
    frame: Explanation,
) -> Explanation:
    place = int(found.places[detection.number])
    own = with_layer(method, layer_of(model, reading, place))
    explainer = model.compiler.explainer(own, Form("box", part=part), reading, batched=model.batched)
    feeds = {model.image: sample.x, "target": np.array([place])} | dict(model.others)
    if part == "score":
        feeds["target_class"] = np.array([detection.index - found.first_class])
    results = explainer.session.run(feeds, ["attribution", "saliency_map", "target_score"])
    attribution = results["attribution"][0]
    if not np.isfinite(attribution).all():
        raise OnnxsalError(f"{frame.method} of {sample.name} has values that are not finite: the model overflows on it")
    layer = explainer.facts["layer"]
    text = f"box:{detection.number}" + ("" if part == "score" else f",{part}")
    return replace(
        frame,
        attribution=attribution,
        heatmap=sample.placement.to_photo(results["saliency_map"][0]),
        target=Target(Form("box", part=part), detection.number, text=text, label=detection.label),
        score=detection.score if part == "score" else float(results["target_score"][0]),
        settings=vars(own) | ({"layer": layer} if layer else {}),
        detection=detection,
    )


def layer_of(model: Sessions, reading: "Reading", place: int) -> str | None:
    """Return the layer behind the level that a proposal belongs to; None where there are no levels."""
    for *_, count, layer in model.compiler.detector(reading, batched=model.batched).facts["levels"]:
        if place < count:
            return None if layer is None else str(layer)
        place -= count
    return None


def with_layer(method: Method, layer: str | None) -> Method:
    """Return a method that looks at a layer, unless it takes none or was told another."""
    if layer is None or getattr(method, "layer", "none taken") is not None:
        return method
    return replace(method, layer=layer)  # type: ignore[type-var]  # methods are dataclasses
