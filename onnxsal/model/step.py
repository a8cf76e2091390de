"""One node, as the rule that carries places through it sees it; and the table of these rules."""

from collections.abc import Callable

import onnx_ir as ir

from onnxsal.graph.shapes import Array, Shape, Shapes
from onnxsal.model.places import Place

Result = Place | None | list[Place | None]
Rule = Callable[["Step"], Result]

RULES: dict[str, Rule] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, function))
        return function

    return register


class Step:
    """One node of the walk, as its rule sees it.

    Attributes:
        node: The node.
        carriers: Inputs whose cells are the cells of the output; a rule that mixes the cells of an
            input (attention's values) leaves it out.
    """

    def __init__(self, node: ir.Node, shapes: Shapes, found: dict[ir.Value, Place]) -> None:
        """Look at `node`, whose inputs' places are in `found`."""
        self.node = node
        self._shapes = shapes
        self._found = found
        self.carriers = list(self.placed)

    @property
    def placed(self) -> dict[ir.Value, Place]:
        """The inputs that have a place, and these."""
        return {v: self._found[v] for v in self.node.inputs if v is not None and v in self._found}

    def input(self, index: int) -> ir.Value | None:
        """Return an input, or None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def place(self, index: int) -> Place | None:
        """Return the place of an input."""
        value = self.input(index)
        return None if value is None else self._found.get(value)

    def known_shape(self, index: int) -> Shape | None:
        """Return the shape of an input, or None where it could not be found."""
        return self._shapes.shape(self.input(index))

    def shape(self, index: int) -> Shape:
        """Return the shape of an input whose place is known."""
        shape = self.known_shape(index)
        assert shape is not None, "a value whose shape is not known has no place"
        return shape

    def output_shape(self, index: int = 0) -> Shape | None:
        """Return the shape of an output."""
        return self._shapes.shape(self.node.outputs[index])

    def const(self, index: int) -> Array | None:
        """Return the contents of an input if they are known."""
        return self._shapes.array(self.input(index))

    def ints(self, index: int, attribute: str) -> list[int] | None:
        """Return integers that are an input or, in an earlier opset, an attribute."""
        if self.input(index) is not None:
            known = self.const(index)
            return None if known is None else [int(n) for n in known.reshape(-1)]
        given = self.node.attributes.get_ints(attribute)
        return None if given is None else list(given)

    def axis(self, default: int = 0) -> int:
        """Return the attribute `axis`, counted from the front, of the first input that has a place."""
        first = next(i for i in range(len(self.node.inputs)) if self.place(i) is not None)
        return self.node.attributes.get_int("axis", default) % len(self.shape(first))
