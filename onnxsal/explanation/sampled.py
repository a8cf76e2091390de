"""Explain by many runs: one image and its targets through a loop, to explanations that get better as it goes on."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import OnnxsalError, TargetError
from onnxsal.explanation.boxed import box_target, part_of
from onnxsal.explanation.detecting import choose, detect, on_photo
from onnxsal.explanation.explanation import Explanation
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.loop_options import LoopOptions
from onnxsal.explanation.regions import mask_of, settle
from onnxsal.explanation.scores import class_scores, target_scores, to_predictions
from onnxsal.explanation.subject import Found, ModelSubject, Sessions
from onnxsal.maps import enlarge, reduce_channels, scale_to_unit
from onnxsal.methods.finding import Finding
from onnxsal.methods.registry import Method
from onnxsal.methods.subject import Sampled, SampledMethod
from onnxsal.targets import TOP, Target, check_range

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def explain_sampled(
    model: Sessions,
    sample: Sample,
    targets: Sequence[Target],
    method: SampledMethod,
    finding: Finding | None,
    frame: Explanation,
    options: LoopOptions,
    region: Any = None,
) -> Iterator[list[Explanation]]:
    """Yield the explanations of all targets, better ones each time if they are wanted; the last are final.

    Args:
        model: The model's sessions.
        sample: The image.
        targets: What is explained.
        method: The method.
        finding: How detections are found, where targets are these.
        frame: What all explanations have in common: `photo`, `name`, `method`, `settings`, `provenance`.
        options: How the loop is run.
        region: Of a segmentation, the pixels that count, as `Model.explain`'s `mask`.
    """
    job = [frame.provenance, repr(method_without_count(method))]
    if finding is not None:
        frames, detections = _detections(model, sample, targets, method, finding, frame)
        masks: list[Floats | None] = [None] * len(frames)
    else:
        frames, masks = _classes(model, sample, targets, frame, region)
        detections = None
    subject = ModelSubject(model, sample, [f.target for f in frames], job, options, detections, masks)
    frames = [_scored(f, subject, i, method) for i, f in enumerate(frames)]
    better = method.attribute(subject)
    for maps in better if options.partial else deque(better, maxlen=1):
        yield [_explanation(sampled, subject, method, f, sample) for sampled, f in zip(maps, frames, strict=True)]


def _scored(frame: Explanation, subject: ModelSubject, target: int, method: SampledMethod) -> Explanation:
    """Return the frame with its target's score, which of a neuron the explainer tells."""
    base = method.white_box()
    if method.asks != "gradient" or base is None or np.isfinite(frame.score):
        return frame
    return replace(frame, score=subject.target_score(base, target))


def blank(name: str, method: Method | SampledMethod, sample: Sample, provenance: Mapping[str, str]) -> Explanation:
    """Return what all explanations of a sample have in common, without a map."""
    nothing = np.zeros((0, 0), np.float32)
    settings = dict(vars(method))
    return Explanation(nothing, nothing, Target(), np.nan, name, settings, (), provenance, sample.photo, sample.name)


def method_without_count(method: Any) -> Any:
    """Return a method with the settings that a loop may change on the way set to nothing."""
    return replace(method, **{name: 1 for name in ("samples", "batch_size") if hasattr(method, name)})


def _classes(
    model: Sessions, sample: Sample, targets: Sequence[Target], frame: Explanation, region: Any
) -> tuple[list[Explanation], list[Floats | None]]:
    """Return the frames of class targets, with the pixels that count of each, (1, H, W), None for all.

    Class and pixels are settled on the image as it is: the same in every run.
    """
    output = model.head.get("class_output")
    if output is None or any(t.form.kind == "neuron" for t in targets):
        return [replace(frame, target=target) for target in targets], [None] * len(targets)
    result = model.plain.run({model.image: sample.x} | dict(model.others), [str(output)])[str(output)]
    scores, probabilities = class_scores(result, model.head)
    check_range(targets, scores.shape[1])
    frame = replace(frame, predictions=to_predictions(scores[0], probabilities[0], 5, model.card))
    order = np.argsort(-scores[0], kind="stable")
    frames, masks = [], []
    for target in targets:
        index = int(order[(target.rank or 1) - 1]) if target.index == TOP else target.index
        named = target.resolved(index, model.card.label_of(index))
        settled, mask = settle(named, result, model.head, sample.placement.size)
        if settled.form.pixels == "mask" and mask is None:
            mask = mask_of(settled, region, sample)
        table = target_scores(result, model.head, [settled], [mask], probability=False)
        frames.append(replace(frame, target=settled, score=float(table[0, 0])))
        masks.append(mask)
    return frames, masks


def _detections(
    model: Sessions,
    sample: Sample,
    targets: Sequence[Target],
    method: SampledMethod,
    finding: Finding,
    frame: Explanation,
) -> tuple[list[Explanation], Found]:
    """Return a frame for each detection that is meant, and these in pixels of the model's input.

    Raises:
        TargetError: The place of a side is meant, which masks say nothing of.
    """
    found, reading = detect(model, sample, finding, peel=getattr(method, "proposals", "all") == "all")
    part = part_of(targets)
    if part != "score" and method.asks != "gradient":
        raise TargetError(f"{frame.method} explains that a box is found, not where its side {part} is: use gradients")
    named = on_photo(found, sample, model)
    head = "after suppression: the best class of each box only" if found.top_only else "proposals before suppression"
    frame = replace(frame, settings={**frame.settings, "head": head})
    chosen = choose(targets, named, finding.threshold)
    frames = []
    for detection in (named[number] for number in chosen):
        target = box_target(detection, part)
        score = detection.score if part == "score" else np.nan
        frames.append(replace(frame, target=target, score=score, detection=detection))
    return frames, Found(found[np.array(chosen)], reading)


def _explanation(
    sampled: Sampled, subject: ModelSubject, method: SampledMethod, frame: Explanation, sample: Sample
) -> Explanation:
    if not np.isfinite(sampled.attribution).all():
        raise OnnxsalError(
            f"{frame.method} of {sample.name} has values that are not finite: the model itself overflows on this image"
        )
    error = sampled.error
    return replace(
        frame,
        attribution=sampled.attribution,
        heatmap=sample.placement.to_photo(_heat(sampled, subject, method)),
        settings={**frame.settings, "samples": sampled.samples} if "samples" in frame.settings else frame.settings,
        error=None if error is None or not np.isfinite(error).all() else error,
    )


def _heat(sampled: Sampled, subject: ModelSubject, method: SampledMethod) -> npt.NDArray[np.float32]:
    """Return (H, W) in [0, 1]: what lies above zero, at the resolution of the model's input."""
    attribution = sampled.attribution
    if attribution.ndim == 3:
        axis = 0 if subject.layout == "NCHW" else 2
        how = getattr(method, "channels", "max_abs")
        attribution = np.abs(reduce_channels(attribution, how, axis=axis))
    height, width = subject.size
    heat = attribution - np.float32(sampled.zero)
    # Enlarged before it is cut at zero, as compiled explainers do it.
    heat = heat if heat.shape == (height, width) else enlarge(heat, (height, width))
    return scale_to_unit(np.maximum(heat, 0))
