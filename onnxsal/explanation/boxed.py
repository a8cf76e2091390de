"""Explain detections by gradients: what a detector finds first, then why, one proposal at a time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detection, Detections
from onnxsal.errors import OnnxsalError
from onnxsal.explanation.aiming import one_box
from onnxsal.explanation.detecting import choose, detect, on_photo
from onnxsal.explanation.explanation import Explanation
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.subject import Sessions
from onnxsal.methods.finding import Finding
from onnxsal.methods.registry import Method
from onnxsal.targets import Form, Target

if TYPE_CHECKING:
    from onnxsal.methods.detector import Reading

Array = npt.NDArray[Any]


def explain_boxes(
    model: Sessions,
    sample: Sample,
    targets: Sequence[Target],
    method: Method,
    finding: Finding,
    frame: Explanation,
) -> list[Explanation]:
    """Return the explanations of the detections that are meant.

    Args:
        model: The model's sessions.
        sample: The photo.
        targets: Which detections, and of which part of them.
        method: The method, of one graph.
        finding: How detections are found.
        frame: What all explanations have in common.
    """
    found, reading = detect(model, sample, finding)
    named = on_photo(found, sample, model)
    part = part_of(targets)
    return [
        _explain(model, sample, found, reading, named[number], part, method, frame)
        for number in choose(targets, named, finding.threshold)
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
    feeds = {model.image: sample.x} | dict(model.others)
    own, explainer, aim = one_box(
        model.compiler, found, reading, detection.number, method, part, feeds, batched=model.batched
    )
    results = explainer.session.run(feeds | aim, ["attribution", "saliency_map", "target_score"])
    attribution = results["attribution"][0]
    if not np.isfinite(attribution).all():
        raise OnnxsalError(f"{frame.method} of {sample.name} has values that are not finite: the model overflows on it")
    layer = explainer.facts["layer"]
    return replace(
        frame,
        attribution=attribution,
        heatmap=sample.placement.to_photo(results["saliency_map"][0]),
        target=box_target(detection, part),
        score=detection.score if part == "score" else float(results["target_score"][0]),
        settings=vars(own) | ({"layer": layer} if layer else {}),
        detection=detection,
    )


def box_target(detection: Detection, part: str) -> Target:
    """Return a detection, or a side of its box, as a target."""
    text = f"box:{detection.number}" + ("" if part == "score" else f",{part}")
    return Target(Form("box", part=part), detection.number, text=text, label=detection.label)


def part_of(targets: Sequence[Target]) -> str:
    """Return which part of detections is meant: their score, or a side."""
    return next((t.form.part for t in targets if t.form.kind == "box"), "score")
