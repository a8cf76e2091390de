"""Gradients along a path to the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from onnxsal.methods.gradient import Gradient
from onnxsal.methods.noise import as_input, at_a_time
from onnxsal.methods.registry import Method, check_at_least, check_at_most, method
from onnxsal.methods.subject import Sampled
from onnxsal.sampling.moments import Moments

if TYPE_CHECKING:
    from onnxsal.methods.subject import Subject

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Quadrature = Literal[
    "gauss-legendre", "riemann-left", "riemann-right", "riemann-middle", "riemann-inclusive", "trapezoid"
]
MOST_STEPS = 10_000
"""Beyond, float32 gradients add noise faster than the quadrature gets better."""
MOST_DENSE = 500
"""NumPy finds the points of Gauss-Legendre quadrature by the eigenvalues of a dense matrix of so many rows."""


@method("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient, averaged on the way from a baseline to the image, times the way: sums to the change in score.

    Source: Sundararajan et al. 2017, arXiv:1703.01365, eq. 1, integrated by Gauss-Legendre quadrature unless told
    otherwise; the paper's own sum (eq. 3) is `riemann-right`.

    Attributes:
        steps: Points on the way.
        quadrature: Where the points lie and what each counts, see `quadrature`: `gauss-legendre`, `riemann-left`,
            `riemann-right`, `riemann-middle`, `riemann-inclusive`, or `trapezoid`.
        baseline: What stands for "nothing there": `zero`, the model input's own zero (after normalisation the mean
            colour), `mean`, the image's mean colour, `black`, `blur`, or a number.
        batch_size: Points in a run; None takes what is fastest and fits into memory.
    """

    steps: int = 50
    quadrature: Quadrature = "gauss-legendre"
    baseline: str | float = "zero"
    batch_size: int | None = None

    asks: ClassVar[str] = "gradient"

    def __post_init__(self) -> None:
        check_at_least(self, steps=2 if self.quadrature in ("riemann-inclusive", "trapezoid") else 1, batch_size=1)
        check_at_most(self, steps=MOST_STEPS)

    def white_box(self) -> Method:
        """Return the gradient."""
        return Gradient()

    @property
    def channels(self) -> str:
        """A pixel's contributions may cancel."""
        return "sum"

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the attributions of all targets."""
        places, shares = quadrature(self.quadrature, self.steps)
        x = subject.x.astype(np.float32)
        base = subject.fill(self.baseline)
        way = x - base
        runs = [subject.attributions(self.white_box(), target) for target in range(subject.targets)]

        def answer(start: int, stop: int) -> list[Array]:
            points = [as_input(base + np.float32(at) * way, subject.x.dtype) for at in places[start:stop]]
            share = (shares[start:stop] * self.steps).astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
            along = np.concatenate(points)
            return [run(along) * share for run in runs]

        # No error, and so no early end: what lies on half of the way is no part of a sample.
        moments = Moments(self.steps, subject.targets, (1,), None, subject.checkpoint())
        for _ in subject.loop(answer, moments, self.steps, self.batch_size, at_a_time(subject)):
            pass
        means = (moments.of(target).mean() for target in range(subject.targets))
        yield [Sampled((m * way[0] * subject.step).astype(np.float32), None, 0.0, self.steps) for m in means]


def quadrature(rule: Quadrature, steps: int) -> tuple[Doubles, Doubles]:
    """Return where on the way from 0 to 1 an integral is sampled, (steps,), and what each sample counts, (steps,).

    The samples of the Riemann sums all count the same. They lie at the start of each step, at its end, in its middle,
    or, `riemann-inclusive`, from 0 to 1 with both. Shares sum to 1 always.
    """
    if rule == "gauss-legendre":
        nodes, weights = _gauss_legendre(steps)
        return (1 + nodes) / 2, weights / 2
    if rule in ("riemann-inclusive", "trapezoid"):
        shares = np.ones(steps)
        if rule == "trapezoid":
            shares[[0, -1]] = 0.5
        return np.linspace(0, 1, steps), shares / shares.sum()
    first = {"riemann-left": 0.0, "riemann-middle": 0.5, "riemann-right": 1.0}[rule]
    return (np.arange(steps) + first) / steps, np.full(steps, 1 / steps)


def _gauss_legendre(steps: int) -> tuple[Doubles, Doubles]:
    """Return points in (-1, 1) and their weights."""
    if steps <= MOST_DENSE:
        return np.polynomial.legendre.leggauss(steps)
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(steps)
    return nodes, weights
