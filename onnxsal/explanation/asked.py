"""What `explain` was asked for, and the three ways to it: one run, one run per box, many runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.explanation.explanation import Explanation
from onnxsal.explanation.inputs import OtherInputs, Sample
from onnxsal.explanation.loop_options import LoopOptions, check_count
from onnxsal.explanation.opened import Opened
from onnxsal.explanation.runs import ExplainerRun, by_size, feeds_of
from onnxsal.explanation.single import explain_target
from onnxsal.methods.finding import Finding
from onnxsal.methods.registry import Method
from onnxsal.methods.subject import SampledMethod
from onnxsal.targets import Target, check_range

Array = npt.NDArray[Any]

BATCH_SIZE = 8
"""Images at a time, unless told otherwise; more does not pay on a CPU, and gradients need memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A question, read.

    Attributes:
        samples: Images, as the model takes them.
        targets: What is explained of each.
        others: The model's other inputs.
        name: The method's name as it was given.
        method: The method.
        finding: How detections are found, if targets are detections.
        batch_size: As the user says, or None.
        loop: How the user wants loops to be run.
        mask: Over which pixels of a segmentation targets are summed, as the user gives it.
    """

    samples: Sequence[Sample]
    targets: Sequence[Target]
    others: OtherInputs
    name: str
    method: Method
    finding: Finding | None
    batch_size: int | None
    loop: LoopOptions
    mask: Any

    def __post_init__(self) -> None:
        """Check what only Python lets through."""
        check_count("batch_size", self.batch_size)

    def apart(self) -> Iterator["Asked"]:
        """Yield the same question about each image alone."""
        for i, sample in enumerate(self.samples):
            part = f"image {i}" if len(self.samples) > 1 else ""
            loop = replace(self.loop, part=part)
            yield replace(self, samples=[sample], others=self.others.at([i]), loop=loop)


def explain_asked(model: Opened, asked: Asked) -> list[Explanation]:
    """Return the explanations, images first, targets second."""
    if isinstance(asked.method, SampledMethod):
        return [e for one in asked.apart() for e in list(improve_asked(model, one))[-1]]
    if asked.finding is not None:
        return [e for one in asked.apart() for e in _explain_boxes(model, one, asked.finding)]
    return _explain_at_once(model, asked)


def improve_asked(model: Opened, asked: Asked) -> Iterator[list[Explanation]]:
    """Yield the explanations of one image by a method of many runs, better ones each time."""
    from onnxsal.explanation.sampled import blank, explain_sampled

    assert isinstance(asked.method, SampledMethod)
    (sample,) = asked.samples
    sessions = model.sessions(asked.others, asked.batch_size)
    frame = blank(asked.name, asked.method, sample, model.provenance(sessions.plain))
    yield from explain_sampled(
        sessions, sample, asked.targets, asked.method, asked.finding, frame, asked.loop, asked.mask
    )


def _explain_boxes(model: Opened, asked: Asked, finding: Finding) -> list[Explanation]:
    from onnxsal.explanation.boxed import explain_boxes
    from onnxsal.explanation.sampled import blank

    (sample,) = asked.samples
    sessions = model.sessions(asked.others, asked.batch_size)
    frame = blank(asked.name, asked.method, sample, model.provenance(sessions.plain))
    return explain_boxes(sessions, sample, asked.targets, asked.method, finding, frame)


def _explain_at_once(model: Opened, asked: Asked) -> list[Explanation]:
    samples, targets, card = asked.samples, asked.targets, model.network.card
    batched = len(samples) > 1 and model.can_batch
    explainer = model.compiler.explainer(asked.method, targets[0].form, batched=batched)
    check_range(targets, explainer.facts["findings"].get("classes"), explainer.facts.get("channels"))
    found: dict[tuple[int, int], Explanation] = {}
    for rows in by_size(samples):
        feeds, some = feeds_of(rows, samples, card.image.name, asked.others), [samples[i] for i in rows]
        if targets[0].form.pixels == "mask":
            feeds["target_mask"] = _masks(targets[0], asked.mask, some)
        run = ExplainerRun(explainer, feeds, len(rows), asked.batch_size or BATCH_SIZE)
        run.check(targets)
        origin = model.provenance(explainer.session)
        for t, aim in enumerate(targets):
            explanations = explain_target(run, aim, some, asked.name, asked.method, card.card, origin)
            found |= {(i, t): e for i, e in zip(rows, explanations, strict=True)}
    return [found[i, t] for i in range(len(samples)) for t in range(len(targets))]


def _masks(target: Target, mask: Any, samples: Sequence[Sample]) -> Array:
    """Return over which pixels of the model's input a target is summed, (n, H, W)."""
    from onnxsal.explanation.regions import mask_of

    return np.concatenate([mask_of(target, mask, sample) for sample in samples])
