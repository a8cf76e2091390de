"""Detections: boxes with all their class probabilities, not the best alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.boxes import suppress

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
LabelOf = Callable[[int], str]
BOXES, PROBABILITIES, OBJECTNESS = "detection_boxes", "detection_probabilities", "detection_objectness"
"""What the outputs are called of a model whose head is decoded."""
Kind = Literal["d-rise", "dot", "hard", "vem"]
"""How two detections are compared, see `similarity.best_match`."""

OVERLAP = 0.5
"""Intersection over union from which on two boxes of a class are of one object."""


@dataclass(frozen=True)
class Detection:
    """One box.

    Attributes:
        box: (x1, y1, x2, y2), pixels of the photo, x2 and y2 exclusive.
        index: Its class.
        label: The label of its class.
        score: Objectness times the class's probability, in [0, 1].
        number: Its place among the detections of the photo, the surest first.
    """

    box: tuple[float, float, float, float]
    index: int
    label: str
    score: float
    number: int

    @property
    def caption(self) -> str:
        """`dog 0.83`, as it stands above the box in a picture."""
        return f"{self.label} {self.score:.2f}"

    def __str__(self) -> str:
        """Return `dog 0.83 [133,207,325,542]`."""
        return f"{self.label} {self.score:.2f} [{','.join(f'{side:.0f}' for side in self.box)}]"


@dataclass(frozen=True, eq=False)
class Detections:
    """D boxes.

    Attributes:
        boxes: (D, 4), (x1, y1, x2, y2), pixels of the photo (of the model's input before they are mapped back).
        probabilities: (D, K), of each class.
        objectness: (D,), in [0, 1]; 1 for heads that have none.
        top_only: The head tells the best class only; the other probabilities are not known and stand as 0.
        has_objectness: Whether the head has an objectness of its own.
        first_class: The class of the first probability; 1 where a background was left out.
        distinct: No two are of the same object: the head has suppressed already, or finds each object once.
        places: (D,), which proposal of the head each is.
        chosen: (D,), the class of each where the head says it, which may give a proposal two; None is the likeliest.
    """

    boxes: Floats
    probabilities: Floats
    objectness: Floats
    top_only: bool = False
    has_objectness: bool = True
    first_class: int = 0
    distinct: bool = False
    places: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    chosen: Places | None = None

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes)

    def __getitem__(self, which: npt.NDArray[np.int64] | slice) -> "Detections":
        """Return some of them."""
        return replace(
            self,
            boxes=self.boxes[which],
            probabilities=self.probabilities[which],
            objectness=self.objectness[which],
            places=self.places[which],
            chosen=None if self.chosen is None else self.chosen[which],
        )

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """(D,), the likeliest class of each, unless the head chose another."""
        if self.chosen is not None:
            return self.chosen
        if not len(self):
            return np.zeros(0, np.int64)
        best: Places = self.probabilities.argmax(axis=1) + self.first_class
        return best

    @property
    def scores(self) -> Floats:
        """(D,), objectness times the probability of its class."""
        own = self.probabilities[np.arange(len(self)), self.classes - self.first_class]
        scores: Floats = self.objectness * own
        return scores

    def final(self, threshold: float, overlap: float | None) -> "Detections":
        """Return those above a score, without those that a surer one of their class overlaps, the surest first.

        Without an `overlap`, from which on they count as one object, all that are distinct stay.
        """
        some = self[np.flatnonzero(self.scores >= threshold)]
        if overlap is None and self.distinct:
            return some[np.argsort(-some.scores, kind="stable")]
        return some[suppress(some.boxes, some.scores, some.classes, OVERLAP if overlap is None else overlap)]

    def moved(self, boxes: Floats) -> "Detections":
        """Return the same detections elsewhere."""
        return replace(self, boxes=boxes)

    def named(self, label_of: LabelOf) -> Iterator[Detection]:
        """Yield them one by one."""
        rows = zip(self.boxes, self.classes, self.scores, strict=True)
        for number, (box, index, score) in enumerate(rows):
            x1, y1, x2, y2 = (float(side) for side in box)
            yield Detection((x1, y1, x2, y2), int(index), label_of(int(index)), float(score), number)
