"""D-RISE: random masks, and how well each detection is found again under them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from onnxsal.detectors.detections import Kind
from onnxsal.methods.masking import Estimator, masked_maps
from onnxsal.methods.normalisation import Normalisation
from onnxsal.methods.registry import MOST_SAMPLES, MOST_SEED, check_at_least, check_at_most, method
from onnxsal.methods.subject import Sampled
from onnxsal.sampling.enlarging import Edges

if TYPE_CHECKING:
    from onnxsal.methods.subject import Subject


@method("d-rise")
@dataclass(frozen=True)
class DRISE:
    """For each detection, where the detector must see something to find it again.

    Source: Petsiuk et al. 2021, arXiv:2006.03204: RISE, the score of a mask being the largest similarity of any
    proposal under it to the detection. All detections of a photo are explained in the same runs.

    Attributes:
        samples: Masks.
        cells: Rows and columns of the grid that masks are made of.
        keep: Probability that a cell stays visible.
        estimator: As for `rise`.
        similarity: `d-rise`, IoU times cosine of class probabilities times objectness (for heads without one, times
            the largest class probability); `dot`, the inner product in place of the cosine; `hard`, IoU times the score
            of the detection's class, which is what detectors that tell only the best class get; `vem`, Microsoft's: no
            factor for heads without objectness, and where only the best class is told, the others share the rest.
        proposals: What a detection is looked for among: `all`, those before suppression where they are found; `final`,
            what the model itself puts out.
        edges: As for `rise`.
        normalisation: As for `rise`.
        threshold: Score from which a detection counts.
        overlap: Intersection over union above which the surer of two boxes of a class removes the other; None is 0.5,
            and nothing more of heads that have suppressed already, or that find each object once.
        decoder: Name of the decoder of the head; None recognises it.
        fill: As for `rise`.
        seed: Of the masks.
        batch_size: Masks in a run; None takes what is fastest and fits into memory.
    """

    samples: int = 5000
    cells: int = 16
    keep: float = 0.5
    estimator: Estimator | None = None
    similarity: Kind = "d-rise"
    proposals: Literal["all", "final"] = "all"
    edges: Edges = "bilinear"
    normalisation: Normalisation = "keep"
    threshold: float = 0.3
    overlap: float | None = None
    decoder: str | None = None
    fill: str | float = "zero"
    seed: int = 0
    batch_size: int | None = None

    asks: ClassVar[str] = "detections"

    def __post_init__(self) -> None:
        check_at_least(self, samples=1, cells=1, batch_size=1, seed=0, threshold=0, overlap=0)
        check_at_most(self, samples=MOST_SAMPLES, seed=MOST_SEED)

    def white_box(self) -> None:
        """Nothing: inputs and outputs will do."""
        return

    def attribute(self, subject: "Subject") -> Iterator[Sequence[Sampled]]:
        """Yield the maps of all detections."""
        space = subject.mask_space(self.cells, self.edges)
        run = subject.found_again(space, subject.fill(self.fill), self.similarity)
        yield from masked_maps(self, subject, space, run)
