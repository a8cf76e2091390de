"""What a head knew before it suppressed: the boxes and full class scores behind a NonMaxSuppression or a final TopK.

Where they are is found by `matching`; here they are read, whatever form they have.
"""

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from onnxsal.detectors.emit import from_centres, part, rows_first, side_distances, to_pixels
from onnxsal.detectors.registry import Proposals
from onnxsal.graph.builder import Op, rank
from onnxsal.graph.find import find_value
from onnxsal.graph.types import dims

Corners = Literal["xy", "yx", "centre", "offsets", "distances"]
LARGEST = 4.135166556742356
"""What torchvision cuts logarithms of sizes at: log(1000 / 16)."""


@dataclass(frozen=True)
class Boxes:
    """How the boxes of all proposals are written.

    Attributes:
        name: Of the value that holds them: (1, P, 4), (1, 4, P) or (P, 4); where each class has a box of its own,
            (P, K, 4).
        corners: What a box is: x1, y1, x2, y2; y1, x1, y2, x2; centre and size; offsets from an anchor, in its sides,
            and logarithms of sizes; or distances to the sides from an anchor's centre, in its sides.
        fractions: Whether they are in 0..1.
        anchors: Name of the value with the anchors, (P, 4), x1, y1, x2, y2.
        scale: What makes pixels of the model's input of them, (horizontal, vertical), where the graph resizes it.
        clip: Width and height, before scaling, that boxes are cut at.
    """

    name: str
    corners: Corners
    fractions: bool = False
    anchors: str | None = None
    scale: tuple[float, float] | None = None
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scores:
    """How the class scores of all proposals are written.

    Attributes:
        name: Of the value that holds them, (1, P, C), (1, C, P) or (P, C).
        logits: Whether they are before a sigmoid.
        skip: Columns before the first class: a background, or the box where both are in one value.
        centred: Name of a value (1, P, 1) of logits: the score is the root of its sigmoid times the class's (FCOS).
    """

    name: str
    logits: bool = False
    skip: int = 0
    centred: str | None = None


@dataclass(frozen=True)
class Peel:
    """Where the proposals are.

    Attributes:
        boxes: How their boxes are written.
        scores: How their scores are.
        first: The number of the first class.
        skip: Where each class has a box of its own, how many boxes come before that of the first class; None where a
            proposal has one box.
    """

    boxes: Boxes
    scores: Scores
    first: int
    skip: int | None = None

    def decode(self, op: Op, size: tuple[int, int]) -> Proposals:
        """Emit the proposals of a model whose input is `size`, (height, width)."""
        scores = self._scores(op)
        value = find_value(op.graph, self.boxes.name)
        if self.skip is None:
            return Proposals(self._corners(op, _long(op, value), size), scores, first_class=self.first)
        each = part(op, value, self.skip, axis=1)
        # Every class's box comes with all the scores of its proposal.
        own = op.Unsqueeze(op.Squeeze(scores, [0]), [1])
        own = op.Expand(own, op.Concat(op.dim(each, 0), op.dim(each, 1), op.dim(own, 2), axis=0))
        boxes = self._corners(op, op.Reshape(each, [1, -1, 4]), size)
        flat = op.Reshape(own, op.Concat([1], [-1], op.dim(own, 2), axis=0))
        return Proposals(boxes, flat, first_class=self.first)

    def _scores(self, op: Op) -> ir.Value:
        said = self.scores
        table = _long(op, find_value(op.graph, said.name))
        table = part(op, table, said.skip) if said.skip else table
        if said.centred is not None:
            return _root_of_product(op, table, _long(op, find_value(op.graph, said.centred)))
        return op.Sigmoid(table) if said.logits else table

    def _corners(self, op: Op, rows: ir.Value, size: tuple[int, int]) -> ir.Value:
        """Return (N, P, 4), corners in pixels of the model's input."""
        said = self.boxes
        boxes = self._plain_corners(op, part(op, rows, 0, 4))
        boxes = to_pixels(op, boxes, size) if said.fractions else boxes
        if said.clip is not None:
            limits = op.const([*said.clip, *said.clip], boxes.dtype)
            boxes = op.Max(op.Min(boxes, limits), op.scalar(0, like=boxes))
        return boxes if said.scale is None else op.Mul(boxes, op.const([*said.scale, *said.scale], boxes.dtype))

    def _plain_corners(self, op: Op, rows: ir.Value) -> ir.Value:
        corners, anchors = self.boxes.corners, self.boxes.anchors
        if corners == "yx":
            return rows_first(op, rows)
        if corners == "centre":
            return from_centres(op, part(op, rows, 0, 2), part(op, rows, 2, 4))
        if anchors is None:
            return rows
        given = _long(op, find_value(op.graph, anchors))
        low, high = part(op, given, 0, 2), part(op, given, 2, 4)
        sides, middle = op.Sub(high, low), op.Mul(op.Add(low, high), op.scalar(0.5, like=low))
        if corners == "distances":
            return side_distances(op, middle, op.Mul(rows, op.Concat(sides, sides, axis=-1)))
        grown = op.Exp(op.Min(part(op, rows, 2, 4), op.scalar(LARGEST, like=rows)))
        return from_centres(op, op.Add(middle, op.Mul(part(op, rows, 0, 2), sides)), op.Mul(sides, grown))


def _root_of_product(op: Op, logits: ir.Value, centred: ir.Value) -> ir.Value:
    """Return the root of the product of two sigmoids. That of 0 has no finite gradient; its logarithm has."""
    logarithm = op.Add(op.Softplus(op.Neg(logits)), op.Softplus(op.Neg(centred)))
    return op.Exp(op.Mul(logarithm, op.scalar(-0.5, like=logarithm)))


def _long(op: Op, value: ir.Value) -> ir.Value:
    """Return (N, P, C), P the longer axis."""
    value = op.Unsqueeze(value, [0]) if rank(value) == 2 else value
    return op.Transpose(value, perm=[0, 2, 1]) if is_wide(dims(value) or ()) else value


def is_wide(shape: tuple[object, ...]) -> bool:
    """Tell whether a value (1, ., .) has its proposals last."""
    return len(shape) == 3 and isinstance(shape[1], int) and isinstance(shape[2], int) and 1 < shape[1] < shape[2]
