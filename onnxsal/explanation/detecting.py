"""What a detector finds on a photo, and which of it is meant."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detection, Detections
from onnxsal.errors import TargetError
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.subject import Sessions
from onnxsal.targets import TOP, Target

Array = npt.NDArray[Any]
BOXES, PROBABILITIES, OBJECTNESS = "detection_boxes", "detection_probabilities", "detection_objectness"


def detect(model: Sessions, sample: Sample, decoder: str | None, threshold: float, overlap: float) -> Detections:
    """Return the detections on a photo, the surest first, boxes in pixels of the model's input.

    Args:
        model: The detector.
        sample: The photo.
        decoder: Name of the decoder of the head; None recognises it.
        threshold: Score from which a detection counts.
        overlap: Intersection over union above which the surer of two boxes of a class removes the other.

    Raises:
        DetectorError: The head is of no known family.
    """
    found = model.compiler.detector(decoder, batched=model.batched)
    results = found.session.run({model.image: sample.x} | dict(model.others))
    boxes, probabilities = results[BOXES][0], results[PROBABILITIES][0]
    has_objectness = OBJECTNESS in results
    objectness = results[OBJECTNESS][0] if has_objectness else np.ones(len(boxes), np.float32)
    places = np.arange(len(boxes))
    everything = Detections(
        boxes, probabilities, objectness, found.facts["top_only"], has_objectness, found.facts["first_class"], places
    )
    return everything.final(threshold, overlap)


def on_photo(detections: Detections, sample: Sample, model: Sessions) -> list[Detection]:
    """Return detections one by one, boxes in pixels of the photo."""
    boxes = [sample.placement.box_to_photo(tuple(box)) for box in detections.boxes.tolist()]
    moved = detections.moved(np.array(boxes, np.float32).reshape(-1, 4))
    return list(moved.named(model.card.label_of))


def choose(targets: Sequence[Target], found: Sequence[Detection], threshold: float) -> list[int]:
    """Return the numbers of the detections that are meant.

    `box:2` is one; `all`, all; `top` the surest, `top:3` the three surest; a class is all of that class.

    Raises:
        TargetError: None is meant.
    """
    if not found:
        raise TargetError(f"nothing is detected with a score of {threshold} or more: lower it (threshold=...)")
    chosen: list[int] = []
    for target in targets:
        chosen += _meant(target, found)
    return list(dict.fromkeys(chosen))


def _meant(target: Target, found: Sequence[Detection]) -> list[int]:
    listed = "; ".join(f"box:{d.number} {d}" for d in found[:8])
    if target.form.kind == "box":
        if target.index == TOP:
            return [d.number for d in found]
        if target.index >= len(found):
            raise TargetError(f"there is no {target.text}; detected are {listed}")
        return [target.index]
    if target.form.kind != "logit":
        raise TargetError(f"{target.text!r} means no detection: use box:0, all, top, or a class")
    if target.index == TOP:
        rank = target.rank or 1
        if rank > len(found):
            raise TargetError(f"{target.text} asks for more than is detected: {listed}")
        return [rank - 1]
    of_class = [d.number for d in found if d.index == target.index]
    if not of_class:
        raise TargetError(f"no {target.text} is detected; detected are {listed}")
    return of_class
