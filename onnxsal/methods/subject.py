"""What a loop may ask of a model and one image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnxsal.methods.registry import Method
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.masks import Draws, MaskSpace
from onnxsal.sampling.scheduler import Status
from onnxsal.sampling.tallies import Checkpoint

if TYPE_CHECKING:
    from onnxsal.detectors.detections import Kind

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sampled:
    """One target's map, from a loop.

    Attributes:
        attribution: Signed, (H, W) or in the shape of the model's input without its batch.
        error: Standard error of `attribution`; None where nothing was drawn at random.
        zero: What of `attribution` stands for "makes no difference"; heat is what lies above.
        samples: How many runs it took.
    """

    attribution: Floats
    error: Floats | None
    zero: float
    samples: int


class Subject(Protocol):
    """One image, its targets, and the model that is asked about them.

    Attributes:
        x: (1, ...), the model's input.
        layout: `NCHW` or `NHWC`.
        size: Height and width of `x`.
        content: The part of `x` that shows the photo, (x1, y1, x2, y2).
        targets: How many targets there are.
        step: What one unit of `x` is worth in the numbers that gradients are taken at: the scale of a quantised image.
    """

    x: Array
    layout: str
    size: tuple[int, int]
    content: tuple[int, int, int, int]
    targets: int
    step: float

    def attributions(self, base: Method, target: int) -> Callable[[Array], Array]:
        """Return what maps model inputs (n, ...) to their attributions under a white-box method."""
        ...

    def masked_scores(
        self, space: MaskSpace, fill: Array, *, probability: bool, logits: bool = False
    ) -> Callable[[Draws], Floats]:
        """Return what maps n masks to the scores of the image under them, (n, T); of detections, how well found.

        `probability` takes probabilities; `logits`, where the model ends in probabilities, what they are made of.
        """
        ...

    def found_again(self, space: MaskSpace, fill: Array, similarity: "Kind") -> Callable[[Draws], Floats]:
        """Return what maps n masks to how well each target, a detection, is found under them, (n, T)."""
        ...

    def whole_scores(self, *, probability: bool) -> Floats:
        """Return the scores (1, T) of the image as it is; of detections, how well each is found."""
        ...

    def mask_space(self, cells: int, edges: Edges = "bilinear") -> MaskSpace:
        """Return random masks of so many rows and columns of cells over what the model sees."""
        ...

    def window_space(self, window: int | None, stride: int | None) -> MaskSpace:
        """Return masks that hide a window each; None takes what fits the input."""
        ...

    def fill(self, name: str | float) -> Floats:
        """Return what stands for "nothing there", float32, of the shape of `x` or broadcast to it."""
        ...

    def loop(
        self,
        answer: Callable[[int, int], object],
        tally: Any,
        samples: int,
        batch_size: int | None,
        most: int | None = None,
    ) -> Iterator[Status]:
        """Run a loop, as the user asked for it to be run; unless they say, of `most` samples in a run."""
        ...

    def checkpoint(self) -> Checkpoint | None:
        """Return where the loop is written down, if anywhere."""
        ...


@runtime_checkable
class SampledMethod(Protocol):
    """A method that runs its model many times.

    One whose attribution has channels may say how a pixel's come to one number, by a field or property `channels`
    (`maps.reduce_channels`); otherwise the largest magnitude counts.

    Attributes:
        asks: What it needs of the model: `classes`, `detections`, or a `gradient`.
    """

    asks: ClassVar[str]

    def white_box(self) -> Method | None:
        """Return the method of one graph that it runs, if it is one."""
        ...

    def attribute(self, subject: Subject) -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all targets, better ones each time; the last are final."""
        ...
