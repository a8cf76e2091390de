"""Methods that hide parts of the image and watch the score: they look at nothing but inputs and outputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from onnxsal.errors import MethodError
from onnxsal.methods.normalisation import Normalisation, normalised
from onnxsal.methods.registry import MOST_SAMPLES, MOST_SEED, check_at_least, check_at_most, method
from onnxsal.methods.subject import Sampled
from onnxsal.sampling.controls import Control, Regression, centred, plain
from onnxsal.sampling.designs import Balanced, Design, First, Independent
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.estimate import estimate
from onnxsal.sampling.masks import Draws, Masks, MaskSpace, all_windows, layer_space
from onnxsal.sampling.tallies import Floats, Scores

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.builder import Op
    from onnxsal.methods.drise import DRISE
    from onnxsal.methods.subject import Subject
    from onnxsal.methods.view import View

Estimator = Literal["balanced", "balanced-regression", "centred", "paper", "regression"]


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
            first; `balanced`, centred, over masks whose cells balance each other, for `keep` = 0.5 only; `regression`,
            with what the score owes to each part of the photo by itself taken off first, and put back exactly;
            `balanced-regression`, both. All estimate the same map; None takes the one that needs fewest masks, which
            is the last where `keep` allows it, and `regression` elsewhere (`benchmarks/quality.md`).
        edges: How cells are enlarged: `bilinear`, as RISE's authors do it; `padded`, as TorchRay does; `nearest`, with
            hard edges.
        score: Of the target: its `probability`, the model's `output` as it is, or the `sigmoid` of that.
        normalisation: The sum of score times mask over the number of masks times `keep`; over the number of `samples`;
            over the sum of the `masks` at each pixel; `none`; or scaled to 0..1, `min-max`.
        fill: What is seen where the mask hides: `zero`, the model input's own zero (after normalisation the mean
            colour), `mean`, the image's mean colour, `black`, `blur`, or a number.
        seed: Of the masks.
        batch_size: Masks in a run; None takes what is fastest and fits into memory.
    """

    samples: int = 4000
    cells: int = 7
    keep: float = 0.5
    estimator: Estimator | None = None
    edges: Edges = "bilinear"
    score: Literal["probability", "output", "sigmoid"] = "probability"
    normalisation: Normalisation = "keep"
    fill: str | float = "zero"
    seed: int = 0
    batch_size: int | None = None

    asks: ClassVar[str] = "classes"

    def __post_init__(self) -> None:
        check_at_least(self, samples=1, cells=1, batch_size=1, seed=0)
        check_at_most(self, samples=MOST_SAMPLES, seed=MOST_SEED)

    def white_box(self) -> None:
        """Nothing: inputs and outputs will do."""
        return

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all targets."""
        space = subject.mask_space(self.cells, self.edges)
        run = subject.masked_scores(space, subject.fill(self.fill), probability=self.score == "probability")
        yield from masked_maps(self, subject, space, _sigmoid_of(run) if self.score == "sigmoid" else run)


def _sigmoid_of(run: Callable[[Draws], Floats]) -> Callable[[Draws], Floats]:
    """Return the sigmoid of what masks score; halves of a tanh cannot overflow."""
    return lambda draws: ((1 + np.tanh(run(draws).astype(np.float64) / 2)) / 2).astype(np.float32)


@method("occlusion")
@dataclass(frozen=True)
class Occlusion:
    """How much the score falls when a window is hidden, averaged over the windows that cover a pixel.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2. The score is the target's own: the logit, or the
    probability where the model ends in probabilities.

    Attributes:
        window: Side of the square that is hidden, in pixels of the model's input; None takes a seventh of the photo's,
            of a photo that is no square a seventh of the side of a square as large.
        stride: From window to window; None takes a quarter of the window.
        fill: What is seen in the window: `zero`, the model input's own zero (after normalisation the mean colour),
            `mean`, the image's mean colour, `black`, `grey`, `white`, `blur`, or a number.
        normalisation: `windows` gives the mean over the windows that cover a pixel, `none` the sum.
        batch_size: Windows in a run; None takes what is fastest and fits into memory.
    """

    window: int | None = None
    stride: int | None = None
    fill: str | float = "zero"
    normalisation: Literal["windows", "none"] = "windows"
    batch_size: int | None = None

    asks: ClassVar[str] = "classes"

    def __post_init__(self) -> None:
        check_at_least(self, window=1, stride=1, batch_size=1)

    def white_box(self) -> None:
        """Nothing: inputs and outputs will do."""
        return

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all targets."""
        space = subject.window_space(self.window, self.stride)
        draws = all_windows(space)
        whole = subject.whole_scores(probability=False)[0]
        run = subject.masked_scores(space, subject.fill(self.fill), probability=False)
        tally = Scores(len(draws), subject.targets, checkpoint=subject.checkpoint())

        def maps(scores: Floats) -> list[Sampled]:
            seen = draws[: len(scores)]
            one = np.zeros(len(scores), np.int64)
            covered = space.interpolate(space.gather(seen, -np.ones(len(scores)), one, 1)[0])
            falls = (whole.astype(np.float64) - scores).T
            sums = [space.interpolate(space.gather(seen, -fall, one, 1)[0]) for fall in falls]
            if self.normalisation == "none":
                return [Sampled(total.astype(np.float32), None, 0.0, len(scores)) for total in sums]
            means = (np.divide(total, covered, out=np.zeros_like(total), where=covered > 0.5) for total in sums)
            return [Sampled(mean.astype(np.float32), None, 0.0, len(scores)) for mean in means]

        for _ in subject.loop(lambda i, j: run(draws[i:j]), tally, len(draws), self.batch_size):
            yield maps(tally.scores)


@method("score-cam")
@dataclass(frozen=True)
class ScoreCAM:
    """Weight each channel of a layer by the score when only what it lights up is seen, sum, keep what is positive.

    Source: Wang et al. 2020, arXiv:1910.01279, algorithm 1: a channel, enlarged and brought to 0..1, is a mask; the
    weights are the softmax of the logits under the masks. Where the model ends in a softmax they are its logarithms, so
    that a channel counts as much as its probability, as in the authors' code.

    Attributes:
        layer: The layer; None takes the last with a spatial extent.
        fill: What is seen where the mask hides, as for `rise`.
        batch_size: Masks in a run; None takes what is fastest and fits into memory.
    """

    layer: str | None = None
    fill: str | float = "zero"
    batch_size: int | None = None

    asks: ClassVar[str] = "classes"

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=1)

    def white_box(self) -> "Activation":
        """Return the layer."""
        return Activation(self.layer)

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all targets."""
        activation = subject.attributions(self.white_box(), 0)(subject.x)[0]
        space = layer_space(subject.size, activation.shape[1:])
        enlarged = space.render(Draws(activation, *np.zeros((2, len(activation)), np.int64)))
        low, high = enlarged.min(axis=(1, 2), keepdims=True), enlarged.max(axis=(1, 2), keepdims=True)
        cells = np.divide(activation - low, high - low, out=np.zeros_like(activation), where=high > low)
        draws = Draws(cells, *np.zeros((2, len(cells)), np.int64))
        run = subject.masked_scores(space, subject.fill(self.fill), probability=False, logits=True)
        tally = Scores(len(draws), subject.targets, checkpoint=subject.checkpoint())
        for _ in subject.loop(lambda i, j: run(draws[i:j]), tally, len(draws), self.batch_size):
            pass
        found = []
        for column in tally.scores.T.astype(np.float64):
            weights = np.exp(column - column.max())
            summed = np.tensordot(weights / weights.sum(), activation, 1)
            found.append(Sampled(np.maximum(summed, 0).astype(np.float32), None, 0.0, len(draws)))
        yield found


@dataclass(frozen=True)
class Activation:
    """A layer's activation, as loops need it."""

    layer: str | None

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Return (N, C, h, w)."""
        return view.activation(self.layer)

    def reduce(self, op: "Op", attribution: "ir.Value", channel_axis: int) -> "ir.Value":
        """Return the strongest channel."""
        return op.ReduceMax(attribution, axes=[1], keepdims=0)


def masked_maps(
    rise: "RISE | DRISE", subject: "Subject", space: MaskSpace, run: Callable[[Draws], object]
) -> Iterator[Sequence[Sampled]]:
    """Yield the maps that random masks give, better ones as runs come in; `run` scores masks."""
    plan = make_design(space, rise.estimator, rise.keep, rise.seed)

    @lru_cache(maxsize=1)
    def maps(count: int) -> list[Sampled]:
        masks = First(plan, count)
        found = maps_of(space, masks, tally.scores[:count], rise.keep, rise.estimator, plan.block)
        return normalised(found, rise.normalisation, space, masks, rise.keep, centred=rise.estimator != "paper")

    tally = Scores(rise.samples, subject.targets, lambda s: worst_error(maps(len(s))), subject.checkpoint())
    for _ in subject.loop(lambda i, j: run(plan.draw(i, j)), tally, rise.samples, rise.batch_size):
        yield maps(tally.done)


def make_design(space: MaskSpace, estimator: Estimator | None, keep: float, seed: int) -> Design:
    """Return the masks that an estimator is made for.

    Raises:
        MethodError: Balanced masks, and another probability than one half.
    """
    if not 0 < keep < 1:
        raise MethodError(f"keep={keep} is no probability between 0 and 1")
    asked = estimator in ("balanced", "balanced-regression")
    if asked and keep != 0.5:
        raise MethodError(f"balanced masks keep half of their cells, and keep is {keep}: use estimator=regression")
    return Balanced(space, seed) if asked or (estimator is None and keep == 0.5) else Independent(space, seed, keep)


def make_control(space: MaskSpace, masks: Masks, estimator: Estimator | None, keep: float) -> Control:
    """Return what an estimator takes off the scores of masks."""
    if estimator == "paper":
        return plain
    return centred if estimator in ("centred", "balanced") else Regression(space, masks, keep)


def maps_of(
    space: MaskSpace, masks: Masks, scores: Floats, keep: float, estimator: Estimator | None, block: int = 2
) -> list[Sampled]:
    """Return the maps of all targets from the scores (n, T) of n masks."""
    control = make_control(space, masks, estimator, keep)
    found = [estimate(space, masks, column, keep, control, block) for column in scores.T]
    return [
        Sampled(e.mean.astype(np.float32), e.error.astype(np.float32), float(column.mean()), len(scores))
        for e, column in zip(found, scores.T, strict=True)
    ]


def worst_error(maps: Sequence[Sampled]) -> float:
    """Return the largest standard error of any map, as a part of its range."""
    parts = [float(m.error.max()) / float(np.ptp(m.attribution) or np.inf) for m in maps if m.error is not None]
    return max(parts, default=0.0)
