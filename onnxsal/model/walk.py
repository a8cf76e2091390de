"""Follow places through a graph, from the image on: abstract interpretation."""

from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsal.graph.shapes import Shapes
from onnxsal.model import places
from onnxsal.model import transfer as _rules  # noqa: F401 - fills RULES
from onnxsal.model.places import Place
from onnxsal.model.step import RULES, Rule, Step

# ONNX Runtime's own operators that are one of ONNX's with something fused or quantised.
ALIASES = {
    "FusedConv": "Conv",
    "QLinearAveragePool": "AveragePool",
    "FusedMatMul": "MatMul",
    "FusedGemm": "Gemm",
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "BiasGelu": "Add",
    "FastGelu": "Gelu",
    "QuickGelu": "Gelu",
    "SkipLayerNormalization": "Add",
}


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
        rule = _rule_of(node)
        if rule is None or all(v is None or v not in walked.places for v in node.inputs):
            continue
        step = Step(node, shapes, walked.places)
        result = rule(step)
        made: list[Place | None] = result if isinstance(result, list) else [result]
        if any(found is not None for found in made):
            walked.carriers[node] = step.carriers
        for value, found in zip(node.outputs, made, strict=False):  # a Dropout's mask has no place
            shape = shapes.shape(value)
            known = None if found is None or shape is None else distinct.one(places.align(found, len(shape)))
            if known is not None:
                walked.places[value] = known
            elif found is not None and places.is_one_cell(found):
                walked.singles.add(node)
    return walked


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


def _rule_of(node: ir.Node) -> Rule | None:
    if node.domain in ("", "ai.onnx"):
        return RULES.get(node.op_type)
    return RULES.get(ALIASES.get(node.op_type, "")) if node.domain == "com.microsoft" else None
