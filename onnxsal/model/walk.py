"""Follow places through a graph, from the image on: abstract interpretation."""

from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsal.graph.expansions import Expanded
from onnxsal.graph.shapes import Shapes
from onnxsal.model import places
from onnxsal.model import transfer as _rules  # noqa: F401 - fills RULES
from onnxsal.model.places import Place
from onnxsal.model.step import RULES, Step


@dataclass(frozen=True, eq=False)
class Walked:
    """What the walk found.

    Attributes:
        places: Of the values that have one. Equal places are one object, so that whoever reads them
            reads each once.
        carriers: By node, the inputs whose cells are the cells of its outputs, as far as these have any.
        singles: Nodes that take one cell out: an unrolled recurrence reads the columns of a map one by one.
    """

    places: dict[ir.Value, Place] = field(default_factory=dict)
    carriers: dict[ir.Node, list[ir.Value]] = field(default_factory=dict)
    singles: set[ir.Node] = field(default_factory=set)


def interpret(graph: ir.Graph, shapes: Shapes, image: ir.Value, place: Place) -> Walked:
    """Return the place of every value that has one."""
    walked = Walked({image: place})
    distinct = _Distinct()
    for node in graph:
        expanded = shapes.expansion(node)
        if expanded is None:
            _visit(node, shapes, walked, distinct)
        else:
            _visit_expanded(node, expanded, shapes, walked, distinct)
    return walked


def _visit(node: ir.Node, shapes: Shapes, walked: Walked, distinct: "_Distinct") -> None:
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None or all(v is None or v not in walked.places for v in node.inputs):
        return
    step = Step(node, shapes, walked.places)
    result = rule(step)
    made: list[Place | None] = result if isinstance(result, list) else [result]
    if any(found is not None for found in made):
        walked.carriers[node] = step.carriers
    for value, found in zip(node.outputs, made, strict=False):  # a Dropout's mask has no place
        shape = shapes.shape(value)
        known = None
        if found is not None and shape is not None and places.fits(found, shape):
            known = distinct.one(places.align(found, len(shape)))
        if known is not None:
            walked.places[value] = known
        elif found is not None and places.is_one_cell(found):
            walked.singles.add(node)


def _visit_expanded(node: ir.Node, expanded: Expanded, shapes: Shapes, walked: Walked, distinct: "_Distinct") -> None:
    """Follow places through what an operator that ONNX does not define computes."""
    carried: dict[ir.Value, set[ir.Value]] = {v: {v} for v in node.inputs if v is not None}
    for made in expanded.nodes:
        _visit(made, shapes, walked, distinct)
        found = set().union(*(carried.get(v, set()) for v in walked.carriers.get(made, [])))
        carried |= dict.fromkeys(made.outputs, found)
    twins = {v: twin for v, twin in zip(node.outputs, expanded.outputs, strict=True) if twin in walked.places}
    for value, twin in twins.items():
        assert twin is not None
        walked.places[value] = walked.places[twin]
        sources = carried.get(twin, set())
        walked.carriers[node] = [v for v in node.inputs if v in sources]


class _Distinct:
    """The different places of a walk."""

    def __init__(self) -> None:
        self._by_shape: dict[tuple[int, ...], list[Place]] = {}

    def one(self, place: Place) -> Place | None:
        """Return the object that stands for all places equal to this; None if it is nowhere."""
        known = self._by_shape.setdefault(place.shape, [])
        for other in known:
            if places.same(place, other):
                return other
        if not places.is_somewhere(place):
            return None
        known.append(place)
        return place
