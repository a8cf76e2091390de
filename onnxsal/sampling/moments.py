"""Sums of powers of maps that come one by one: what their mean, their spread, and the errors of these follow from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import OutputError
from onnxsal.sampling.tallies import Checkpoint

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerMeans:
    """Means over one target's arrays.

    Attributes:
        count: How many there were.
        means: By power, the mean of the arrays' powers.
    """

    count: int
    means: Mapping[int, Doubles]

    def mean(self, power: int = 1) -> Doubles:
        """Return the mean of a power."""
        return self.means[power]

    def error(self, power: int = 1) -> Doubles:
        """Return the standard error of `mean(power)`; infinite after one. Takes twice the power, too."""
        return self._error(self.means[2 * power] - self.means[power] ** 2)

    @property
    def variance(self) -> Doubles:
        """The variance among the arrays."""
        variance: Doubles = np.maximum(self.means[2] - self.means[1] ** 2, 0)
        return variance

    @property
    def variance_error(self) -> Doubles:
        """The standard error of `variance`; takes the powers up to 4.

        Source: H. Cramér 1946, "Mathematical methods of statistics", eq. 27.4.2, to first order in 1/n.
        """
        m1, m2, m3, m4 = (self.means[power] for power in (1, 2, 3, 4))
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        return self._error(fourth - self.variance**2)

    def _error(self, variance: Doubles) -> Doubles:
        """Return the standard error of a mean over what has this variance among those that were drawn."""
        if self.count < 2:
            return np.full_like(variance, np.inf)
        error: Doubles = np.sqrt(np.maximum(variance, 0) / (self.count - 1))
        return error


class Moments:
    """Sums of powers of arrays, one array for each target and sample, in double and in order.

    Attributes:
        done: Samples put in.
        targets: How many targets there are.
    """

    def __init__(
        self,
        total: int,
        targets: int = 1,
        powers: Sequence[int] = (1, 2),
        error: "Callable[[Moments], float] | None" = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Start from nothing, or go on from a checkpoint.

        Args:
            total: Samples that are asked for.
            targets: Targets.
            powers: Which powers are summed: 1; 2 with any that is higher; 3; 4.
            error: The relative standard error that follows from the sums so far; None if it is not known.
            checkpoint: Where to write them down.

        Raises:
            OutputError: The checkpoint cannot be read, or has more samples than are asked for.
        """
        self._powers, self._error, self._checkpoint = tuple(powers), error, checkpoint
        self._sums: list[dict[int, Doubles]] = [{} for _ in range(targets)]
        self.targets, self.done = targets, 0
        saved = checkpoint.read() if checkpoint else None
        if checkpoint is not None and saved is not None:
            self.done = int(saved["done"])
            self._sums = [{p: saved[f"target_{i}_power_{p}"] for p in self._powers} for i in range(targets)]
            if self.done > total:
                raise OutputError(
                    f"{checkpoint.path} holds the sums of {self.done} samples, from which {total} cannot be had: ask "
                    f"for {self.done} or more, or choose another file"
                )

    def put(self, start: int, answer: object) -> None:
        """Take in the arrays (n, ...) of each target, a list of them, from index `start` on."""
        assert start == self.done, f"sample {start} comes after {self.done}"
        assert isinstance(answer, list)
        for sums, arrays in zip(self._sums, answer, strict=True):
            for array in arrays:
                self._add(sums, array)
        self.done += len(answer[0])

    def _add(self, sums: dict[int, Doubles], array: Array) -> None:
        if not sums:
            sums.update({power: np.zeros(array.shape) for power in self._powers})
        # In double while they are read: half the time of arrays made double first.
        for power, values in _powers(array, self._powers):
            sums[power] += values

    def of(self, target: int) -> PowerMeans:
        """Return what is known of one target."""
        return PowerMeans(self.done, {power: total / self.done for power, total in self._sums[target].items()})

    def relative_error(self) -> float | None:
        """Return the relative standard error of what is asked for."""
        return None if self._error is None or self.done < 2 else self._error(self)

    def save(self) -> None:
        """Write the sums down."""
        if self._checkpoint is not None and self.done:
            named = {f"target_{i}_power_{p}": total for i, sums in enumerate(self._sums) for p, total in sums.items()}
            self._checkpoint.write({"done": np.array(self.done), **named})


def _powers(array: Array, wanted: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """Yield powers of an array, those beyond the first in double."""
    if 1 in wanted:
        yield 1, array
    if max(wanted) > 1:
        square = np.multiply(array, array, dtype=np.float64)
        yield 2, square
    if 3 in wanted:
        yield 3, square * array
    if 4 in wanted:
        yield 4, square * square
