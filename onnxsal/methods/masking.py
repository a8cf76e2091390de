"""Methods that hide parts of the image and watch the score: they look at nothing but inputs and outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from onnxsal.errors import MethodError
from onnxsal.methods.registry import method
from onnxsal.methods.subject import Sampled
from onnxsal.sampling.designs import Balanced, Design, Independent
from onnxsal.sampling.estimate import estimate
from onnxsal.sampling.masks import MaskSpace, rise_space
from onnxsal.sampling.tallies import Floats, Scores

if TYPE_CHECKING:
    from onnxsal.methods.subject import Subject

Estimator = Literal["balanced", "centred", "paper"]


@method("rise")
@dataclass(frozen=True)
class RISE:
    """The score to be expected when a pixel is kept, over random masks that hide the rest.

    Source: Petsiuk et al. 2018, arXiv:1806.07421, eq. 6. The score is the class's probability.

    Attributes:
        samples: Masks.
        cells: Rows and columns of the grid that masks are made of.
        keep: Probability that a cell stays visible.
        estimator: `paper`, the mean of score times mask, over `keep`; `centred`, the same with the mean score taken off
            first; `balanced`, centred, over masks whose cells balance each other, for `keep` = 0.5 only. All estimate
            the same map; None takes the one that needs fewest masks.
        fill: What is seen where the mask hides: `zero`, the model input's own zero (after normalisation the mean
            colour), `mean`, the image's mean colour, `black`, `blur`, or a number.
        seed: Of the masks.
        batch_size: Masks in a run; None fits it to the memory.
    """

    samples: int = 4000
    cells: int = 7
    keep: float = 0.5
    estimator: Estimator | None = None
    fill: str = "zero"
    seed: int = 0
    batch_size: int | None = None

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all targets."""
        space = rise_space(subject.content, subject.size, (self.cells, self.cells))
        plan = make_design(space, self.estimator, self.keep, self.seed)
        run = subject.masked_scores(space, subject.fill(self.fill), probability=True)

        def maps(scores: Floats) -> list[Sampled]:
            draws = plan.draw(0, len(scores))
            centred = self.estimator != "paper"
            found = [estimate(space, draws, column, self.keep, centred=centred) for column in scores.T]
            return [
                Sampled(e.mean.astype(np.float32), e.error.astype(np.float32), float(column.mean()), len(scores))
                for e, column in zip(found, scores.T, strict=True)
            ]

        tally = Scores(self.samples, subject.targets, lambda scores: worst_error(maps(scores)), subject.checkpoint())
        for _ in subject.loop(lambda i, j: run(plan.draw(i, j)), tally, self.samples, self.batch_size):
            yield maps(tally.scores)


def make_design(space: MaskSpace, estimator: Estimator | None, keep: float, seed: int) -> Design:
    """Return the masks that an estimator is made for.

    Raises:
        MethodError: Balanced masks, and another probability than one half.
    """
    if not 0 < keep < 1:
        raise MethodError(f"keep={keep} is no probability between 0 and 1")
    if estimator == "balanced" and keep != 0.5:
        raise MethodError(f"balanced masks keep half of their cells, and keep is {keep}: use estimator=centred")
    balanced = estimator == "balanced" or (estimator is None and keep == 0.5)
    return Balanced(space, seed) if balanced else Independent(space, seed, keep)


def worst_error(maps: Sequence[Sampled]) -> float:
    """Return the largest standard error of any map, as a part of its range."""
    parts = [float(m.error.max()) / float(np.ptp(m.attribution) or np.inf) for m in maps if m.error is not None]
    return max(parts, default=0.0)
