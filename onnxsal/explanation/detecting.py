"""What a detector finds on a photo, and which of it is meant."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import BOXES, OBJECTNESS, PROBABILITIES, Detection, Detections
from onnxsal.errors import TargetError
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.subject import Sessions
from onnxsal.methods.finding import Finding
from onnxsal.targets import TOP, Target

if TYPE_CHECKING:
    from onnxsal.methods.detector import Reading

Array = npt.NDArray[Any]


def detect(model: Sessions, sample: Sample, finding: Finding, *, peel: bool = True) -> tuple[Detections, "Reading"]:
    """Return the detections on a photo, the surest first, boxes in pixels of the model's input; and how they were read.

    A head that has suppressed already tells the best class only. Where what it suppressed is found in the graph, the
    detections stay those it gives, with the class probabilities of the proposals that they were.

    Args:
        model: The detector.
        sample: The photo.
        finding: From which score on, and by which decoder.
        peel: Look for what a head that has suppressed did suppress.

    Raises:
        DetectorError: The head is of no known family.
    """
    from onnxsal.methods.detector import Reading

    reading = Reading(finding.decoder)
    final = _proposals(model, sample, reading).final(finding.threshold, finding.overlap)
    if not peel or not final.top_only or not len(final):
        return final, reading
    peeled = _peeled(model, sample, reading, final)
    return (final, reading) if peeled is None else peeled


def _proposals(model: Sessions, sample: Sample, reading: "Reading") -> Detections:
    """Return everything that the head proposes."""
    found = model.compiler.detector(reading, batched=model.batched)
    results = found.session.run({model.image: sample.x} | dict(model.others))
    boxes, probabilities = results[BOXES][0], results[PROBABILITIES][0]
    has_objectness = OBJECTNESS in results
    objectness = results[OBJECTNESS][0] if has_objectness else np.ones(len(boxes), np.float32)
    facts = {name: found.facts[name] for name in ("top_only", "distinct", "first_class")}
    places = np.arange(len(boxes))
    return Detections(boxes, probabilities, objectness, has_objectness=has_objectness, places=places, **facts)


def _peeled(
    model: Sessions, sample: Sample, reading: "Reading", final: Detections
) -> tuple[Detections, "Reading"] | None:
    """Return the final detections with all their class probabilities, or None where these are not to be found."""
    from onnxsal.detectors.matching import match, places_of

    names = model.compiler.peelable(batched=model.batched)
    if not names.boxes or not names.scores:
        return None
    probe = model.compiler.probe(names.names, batched=model.batched)
    found = probe.session.run({model.image: sample.x} | dict(model.others), names.names)
    peel = match(found, names, final, sample.placement.size)
    if peel is None:
        return None
    reading = replace(reading, peel=peel)
    everything = _proposals(model, sample, reading)
    places = places_of(everything, final)
    if places is None:
        return None
    return replace(everything[places], boxes=final.boxes, chosen=final.classes), reading


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
        raise TargetError(
            f"nothing is detected with a score of {threshold} or more: lower it (threshold=...), or check how the "
            f"photo is prepared (the card; see onnxsal inspect)"
        )
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
