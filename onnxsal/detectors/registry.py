"""The table of decoders, and how the one that fits a model is found.

A decoder looks at the graph and says what speaks for it; one that finds nothing returns None. No decoder runs the
model: names, operators and shapes must do, and where two heads look alike the one that is surer is taken, aloud.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnxsal.errors import DetectorError

if TYPE_CHECKING:
    from onnxsal.graph.builder import Op

Shape = tuple[int | str | None, ...]
Decode = Callable[["Op"], "Proposals"]
STRIDES = (8, 16, 32)
PYRAMIDS = (STRIDES, (*STRIDES, 64), (4, *STRIDES), (16, 32), (*STRIDES, 64, 128), (4, *STRIDES, 64))
"""Strides of the grids that heads have: of most; with a coarser or a finer grid more (P6, P2); of tiny models."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """What a head proposes before suppression, as values of the graph.

    Attributes:
        boxes: (N, P, 4), (x1, y1, x2, y2) in pixels of the model's input.
        probabilities: (N, P, K), in [0, 1].
        objectness: (N, P), in [0, 1]; None for heads that have none.
        top_only: The head tells the best class of each box only.
        distinct: No two are of the same object: the head has suppressed already, or finds each object once.
        first_class: The class of the first column; 1 where a background column was left out.
    """

    boxes: ir.Value
    probabilities: ir.Value
    objectness: ir.Value | None = None
    top_only: bool = False
    distinct: bool = False
    first_class: int = 0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a decoder may look at.

    Attributes:
        model: The model in canonical form.
        metadata: Its `metadata_props`.
        size: Height and width of its image input.
        classes: How many labels the card has; None without labels.
        outputs: Shape by name of the graph's outputs on an image of that size, in order.
    """

    model: ir.Model
    metadata: Mapping[str, str]
    size: tuple[int, int]
    classes: int | None
    outputs: Mapping[str, Shape]

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [str(v.name) for v in self.model.graph.inputs if not v.is_initializer()]

    @cached_property
    def op_types(self) -> set[str]:
        """The operators in the graph."""
        return {node.op_type for node in self.model.graph}

    @cached_property
    def suppresses(self) -> bool:
        """Whether the model suppresses boxes itself, in a branch of it maybe."""
        return any(
            node.op_type == "NonMaxSuppression" for node in ir.traversal.RecursiveGraphIterator(self.model.graph)
        )

    @cached_property
    def labels(self) -> int:
        """Number of classes to allow for where the outputs do not say: the card's, or as many as LVIS has."""
        return self.classes or 1204

    def has(self, *names: str) -> bool:
        """Tell whether there are outputs of all these names."""
        return set(names) <= set(self.outputs)

    @property
    def by_ultralytics(self) -> bool:
        """Whether the metadata say so."""
        return self.metadata.get("author") == "Ultralytics"

    def cells(self, strides: Sequence[int] = STRIDES) -> int:
        """Return how many cells grids of these strides have on the input."""
        return sum(count for _, _, count in self.levels(strides))

    def pyramid(self, count: object, anchors: int = 1) -> tuple[int, ...] | None:
        """Return the strides of the grids that have so many proposals between them; None if none do."""
        return next((strides for strides in PYRAMIDS if count == anchors * self.cells(strides)), None)

    def levels(self, strides: Sequence[int] = STRIDES, anchors: int = 1) -> list[tuple[int, int, int]]:
        """Return rows, columns and proposals of grids of these strides on the input."""
        sizes = [(-(-self.size[0] // s), -(-self.size[1] // s)) for s in strides]
        return [(rows, columns, rows * columns * anchors) for rows, columns in sizes]

    def behind(self, name: str, op_types: set[str], depth: int) -> list[ir.Node]:
        """Return the nodes of these operators up to `depth` steps before an output."""
        (output,) = (v for v in self.model.graph.outputs if v.name == name)
        level, found, seen = [output], [], set[ir.Value]()
        for _ in range(depth):
            nodes = [node for v in level if (node := v.producer()) is not None]
            found += [node for node in nodes if node.op_type in op_types and node not in found]
            level = list({v for node in nodes for v in node.inputs if v is not None and v not in seen})
            seen |= set(level)
        return found


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head that was recognised.

    Attributes:
        name: Of the decoder.
        evidence: What speaks for it, in clauses.
        decode: Emits the proposals at the end of a graph.
        sure: How sure it is, in [0, 1].
        levels: Of heads over a pyramid of grids: rows, columns and proposals of each, in order.
        single: The outputs are those of one photo, so that a run takes one.
    """

    name: str
    evidence: Sequence[str]
    decode: Decode = field(repr=False)
    sure: float = 0.5
    levels: Sequence[tuple[int, int, int]] = ()
    single: bool = False


def listed(strides: Sequence[int]) -> str:
    """Return `8, 16 and 32`."""
    return f"{', '.join(map(str, strides[:-1]))} and {strides[-1]}" if len(strides) > 1 else str(strides[0])


Decoder = Callable[[Evidence], Candidate | None]
_DECODERS: dict[str, Decoder] = {}


def decoder(name: str) -> Callable[[Decoder], Decoder]:
    """Register the decorated function, which recognises a family of heads."""

    def register(function: Decoder) -> Decoder:
        _DECODERS[name] = function
        return function

    return register


def decoders() -> list[str]:
    """Return the names of all decoders."""
    return list(_DECODERS)


def recognise(evidence: Evidence, name: str | None = None) -> list[Candidate]:
    """Return the heads that the model may have, the surest first.

    Args:
        evidence: The model.
        name: Of the decoder to use, whatever the others say; None asks all.

    Raises:
        DetectorError: There is no decoder of that name, or it finds nothing it could decode.
    """
    if name is None:
        found = [candidate for decode in _DECODERS.values() if (candidate := decode(evidence)) is not None]
        return sorted(found, key=lambda candidate: -candidate.sure)
    if name not in _DECODERS:
        raise DetectorError(f"no decoder {name!r}; there are {', '.join(_DECODERS)}")
    candidate = _DECODERS[name](evidence)
    if candidate is None:
        shapes = ", ".join(f"{plain!r} {shape}" for plain, shape in evidence.outputs.items())
        raise DetectorError(f"decoder {name!r} finds nothing to decode in the outputs {shapes}")
    return [candidate]
