"""One sample of any shape and its targets, as loops of many runs see them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import MethodError, OnnxsalError
from onnxsal.explanation.loop_options import LoopOptions, part_of_file
from onnxsal.explanation.planes import plane_of
from onnxsal.explanation.spaces import checked_stride, photo_space, square_space
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.masks import Draws, MaskSpace, feature_space, stretch_space
from onnxsal.sampling.scheduler import Schedule, Status, sweep
from onnxsal.sampling.tallies import Checkpoint, Floats
from onnxsal.targets import Target

if TYPE_CHECKING:
    from onnxsal.detectors.detections import Kind
    from onnxsal.explanation.arrays import ArrayModel

Array = npt.NDArray[Any]
METHODS = ("rise", "occlusion")
"""The methods that need no more of a model than its answers."""


class ArraySubject:
    """One sample of any shape; see `methods.subject.Subject`."""

    layout = "NCHW"

    def __init__(
        self,
        model: "ArrayModel",
        x: Array,
        targets: Sequence[Target],
        job: Sequence[object],
        batch_size: int,
        options: LoopOptions,
    ) -> None:
        """See one sample; targets have their class settled."""
        self._model, self._targets, self._job, self._options = model, list(targets), list(job), options
        self._batch_size = batch_size
        self.x = x
        self.targets = len(targets)
        self.step = 1.0
        self.plane = plane_of(x.shape[1:], time_last=model.time_last)
        self.size = self.plane.size
        self.content = (0, 0, self.size[1], self.size[0])

    def mask_space(self, cells: int, edges: Edges = "bilinear") -> MaskSpace:
        """Return masks over an image, or over stretches of time and single entries of each step."""
        if self.plane.channel_axis is not None:
            return photo_space(self.content, self.size, cells, edges)
        return feature_space(self.size, min(cells, self.size[0]), edges)

    def window_space(self, window: int | None, stride: int | None) -> MaskSpace:
        """Return masks that hide a square of an image each, or some entries."""
        if self.plane.channel_axis is not None:
            return square_space(self.content, self.size, window, stride)
        window = window or max(self.size[0] // 7, 1)
        if window > self.size[0]:
            raise MethodError(f"window={window} is longer than the sample, which has {self.size[0]} steps")
        return stretch_space(self.size, window, checked_stride(stride, window))

    def masked_scores(
        self, space: MaskSpace, fill: Array, *, probability: bool, logits: bool = False
    ) -> Callable[[Draws], Floats]:
        """Return what maps n masks to the scores of the sample under them, (n, T)."""

        def run(draws: Draws) -> Floats:
            masks = self.plane.spread(space.render(draws))
            return self.scores(fill + masks * (self.x - fill))

        return run

    def whole_scores(self, *, probability: bool) -> Floats:
        """Return the scores (1, T) of the sample as it is."""
        return self.scores(self.x)

    def scores(self, x: Array) -> Floats:
        """Return the scores (n, T) of samples (n, ...), as the model gives them: what they are nobody says.

        Raises:
            OnnxsalError: One is no finite number.
        """
        scores = self.pick(self._model.scores(x), self._targets)
        if not np.isfinite(scores).all():
            raise OnnxsalError(
                f"{self._model.name} gives scores that are not finite, to this sample or with parts hidden"
            )
        return scores

    @staticmethod
    def pick(table: Array, targets: Sequence[Target]) -> Floats:
        """Return the targets' columns."""
        columns = [table[:, t.index] - (0 if t.minus is None else table[:, t.minus]) for t in targets]
        return np.stack(columns, axis=1).astype(np.float32)

    def attributions(self, base: Any, target: int) -> Callable[[Array], Array]:
        """Refuse: there is no graph.

        Raises:
            MethodError: Always.
        """
        raise MethodError(f"{self._model.name} has no graph to take gradients of: use {' or '.join(METHODS)}")

    def found_again(self, space: MaskSpace, fill: Array, similarity: "Kind") -> Callable[[Draws], Floats]:
        """Refuse: there are no detections.

        Raises:
            MethodError: Always.
        """
        raise MethodError(f"{self._model.name} has no detections: use {' or '.join(METHODS)}")

    def fill(self, name: str | float) -> Floats:
        """Return what stands for "nothing there": 0 or another number, or `mean`, each feature's mean over time."""
        if name == "mean":
            return np.broadcast_to(self.plane.means(self.x), self.x.shape).astype(np.float32)
        try:
            number = 0.0 if name == "zero" else float(name)
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise MethodError(f"fill={name!r} is neither a number nor zero or mean")
        return np.full(self.x.shape, number, np.float32)

    def loop(
        self,
        answer: Callable[[int, int], object],
        tally: Any,
        samples: int,
        batch_size: int | None,
        most: int | None = None,
    ) -> Iterator[Status]:
        """Run a loop, as the user asked for it to be run."""
        options = self._options
        # A Python function may not bear several runs at a time.
        schedule = Schedule(
            samples, batch_size or self._batch_size, options.workers or 1, options.tolerance, options.looks
        )
        return sweep(answer, tally, schedule, options.progress)

    def checkpoint(self) -> Checkpoint | None:
        """Return where the loop is written down, if anywhere."""
        if self._options.checkpoint is None:
            return None
        parts = [*map(repr, [*self._job, self._targets]), hashlib.sha256(self.x.tobytes()).hexdigest()]
        job = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return Checkpoint(part_of_file(self._options.checkpoint, self._options.part), job)
