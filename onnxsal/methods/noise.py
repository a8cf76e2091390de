"""Averages over noisy copies of the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from onnxsal.errors import MethodError
from onnxsal.methods.registry import (
    MOST_SAMPLES,
    MOST_SEED,
    Method,
    check_at_least,
    check_at_most,
    find_method,
    make_method,
    method,
)
from onnxsal.methods.subject import Sampled
from onnxsal.sampling.moments import Moments, PowerMeans
from onnxsal.sampling.streams import Purpose, normals

if TYPE_CHECKING:
    from onnxsal.methods.subject import Subject

Array = npt.NDArray[Any]
POWERS = {"mean": (1, 2), "squared": (2, 4), "variance": (1, 2, 3, 4)}
"""Of attributions: the first is what a variant averages, the others are what its error takes."""
HELD = 128 << 20  # bytes


@method("smoothgrad")
@dataclass(frozen=True)
class SmoothGrad:
    """Another method, averaged over noisy copies of the image: what does not depend on the last bit of it.

    Source: Smilkov et al. 2017, arXiv:1706.03825, section 3. The noise is normal, its deviation a fraction of the
    image's range of values. Maps are averaged with their sign, unless `absolute`.

    Attributes:
        base: The method that is averaged, any that is one run: gradient, grad-x-input, guided-backprop, grad-cam, ...
            Its own settings may follow: `grad-cam,relu=false`.
        noise: Standard deviation of the noise, as a fraction of the largest less the smallest value of the model input.
        samples: Noisy copies.
        variant: `mean`; `squared`, the mean of squares (Hooker et al. 2018, arXiv:1806.10758); `variance`, the
            variance among the copies (Adebayo et al. 2018, arXiv:1810.03307).
        absolute: Take magnitudes before averaging.
        scale: What `noise` is a fraction of: the image's own `range`, or 1 (`unit`).
        layer: The layer of the base method, if it takes one.
        seed: Of the noise.
        batch_size: Copies in a run; None takes what is fastest and fits into memory.
    """

    base: str = "gradient"
    noise: float = 0.15
    samples: int = 50
    variant: Literal["mean", "squared", "variance"] = "mean"
    absolute: bool = False
    scale: Literal["range", "unit"] = "range"
    layer: str | None = None
    seed: int = 0
    batch_size: int | None = None

    asks: ClassVar[str] = "gradient"

    def __post_init__(self) -> None:
        check_at_least(self, samples=1, noise=0, batch_size=1, seed=0)
        check_at_most(self, samples=MOST_SAMPLES, seed=MOST_SEED)

    def white_box(self) -> Method:
        """Return the method that is averaged.

        Raises:
            MethodError: There is none of that name, or it runs the model many times itself, or has no such setting.
        """
        name, settings = read_base(self.base)
        if find_method(name).sampled:
            raise MethodError(f"smoothgrad averages methods of one run, and {name} is none: choose another base")
        return make_method(name, settings if self.layer is None else {**settings, "layer": self.layer})

    @property
    def channels(self) -> str:
        """How a pixel's channels are put together, as the base method does it."""
        return "sum" if hasattr(find_method(read_base(self.base)[0]).kind, "reduce") else "max_abs"

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the averages of all targets."""
        base = self.white_box()
        runs = [subject.attributions(base, target) for target in range(subject.targets)]
        deviation = np.float32(self.noise * (np.ptp(subject.x.astype(np.float32)) if self.scale == "range" else 1))

        def answer(start: int, stop: int) -> list[Array]:
            noisy = np.concatenate([self._copy(subject.x, deviation, i) for i in range(start, stop)])
            attributions = [run(noisy) for run in runs]
            return [np.abs(a) for a in attributions] if self.absolute else attributions

        moments = Moments(self.samples, subject.targets, POWERS[self.variant], self._relative, subject.checkpoint())
        for _ in subject.loop(answer, moments, self.samples, self.batch_size, at_a_time(subject)):
            yield [self._result(moments, target) for target in range(subject.targets)]

    def _copy(self, x: Array, deviation: np.float32, index: int) -> Array:
        noisy = normals(self.seed, Purpose.NOISE, index, x.shape)
        noisy *= deviation
        noisy += x.astype(np.float32, copy=False)
        return as_input(noisy, x.dtype)

    def _value(self, found: PowerMeans) -> tuple[Array, Array]:
        """Return the map and its standard error."""
        if self.variant == "variance":
            return found.variance, found.variance_error
        power = POWERS[self.variant][0]
        return found.mean(power), found.error(power)

    def _relative(self, moments: Moments) -> float:
        """Return the largest root mean square of a standard error over that of its map."""
        maps = [self._value(moments.of(target)) for target in range(moments.targets)]
        sizes = [tuple(float(np.sqrt(np.mean(part**2))) for part in found) for found in maps]
        return max(error / size if size > 0 else np.inf for size, error in sizes)

    def _result(self, moments: Moments, target: int) -> Sampled:
        value, error = self._value(moments.of(target))
        return Sampled(value.astype(np.float32), error.astype(np.float32), 0.0, moments.done)


def at_a_time(subject: "Subject") -> int:
    """Return of how many samples attributions are held at a time: as many again wait to be added up."""
    return max(HELD // (subject.targets * subject.x.size * np.dtype(np.float32).itemsize), 1)


def read_base(text: str) -> tuple[str, dict[str, str]]:
    """Return name and settings of a method that is spelled `grad-cam,relu=false`.

    Raises:
        MethodError: What follows the name is no list of settings.
    """
    name, *settings = (part.strip() for part in text.split(","))
    pairs = [setting.partition("=") for setting in settings]
    if not all(key and equals and value for key, equals, value in pairs):
        raise MethodError(f"base={text!r} is no method with its settings: write base=grad-cam,relu=false")
    return name, {key: value for key, _, value in pairs}


def as_input(values: Array, dtype: "np.dtype[Any]") -> Array:
    """Return values in the type of the model's input; whole numbers are rounded, and cut at what the type holds."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    if dtype.kind == "b":
        return values >= 0.5
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
