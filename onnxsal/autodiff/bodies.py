"""Nodes that hold graphs, seen as a gradient sees them: how values enter a body, leave it, and come round."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from onnxsal.graph.builder import Op

Pair = tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class Body:
    """A graph within a node.

    Besides what enters, a body may read any value of the graphs around it.

    Attributes:
        graph: The body.
        name: The attribute that holds it.
        enters: Node input and body input, for each value that is handed in.
        leaves: Body output and node output.
        carries: Body output and body input, for each state that a loop hands to its next turn.
    """

    graph: ir.Graph
    name: str
    enters: Sequence[Pair] = ()
    leaves: Sequence[Pair] = ()
    carries: Sequence[Pair] = ()


@dataclass(frozen=True)
class Inside:
    """What a gradient passes within one body.

    Attributes:
        body: The body.
        active: Body inputs that carry a gradient.
        of: Body outputs that the gradient comes from.
    """

    body: Body
    active: frozenset[ir.Value]
    of: frozenset[ir.Value]


@dataclass(frozen=True)
class Request:
    """What the rule of a whole node is asked for.

    Attributes:
        node: The primal node.
        cotangents: Of each of its outputs; None where none arrives.
        wanted: The values that carry a gradient, among those that the node and its bodies read.
        inside: What the gradient passes in each body.
        differentiate: The walk, under the same rules, on a graph that a builder writes:
            `differentiate(op, seeds, wrt)` returns a cotangent, or None, per entry of `wrt`.
        gradient_type: The type that the gradient of a value has.
    """

    node: ir.Node
    cotangents: Sequence[ir.Value | None]
    wanted: Sequence[ir.Value]
    inside: Sequence[Inside]
    differentiate: Callable[["Op", Mapping[ir.Value, ir.Value], Sequence[ir.Value]], list[ir.Value | None]]
    gradient_type: Callable[[ir.Value], ir.DataType]

    def cotangent(self, output: ir.Value) -> ir.Value | None:
        """Return what arrives at an output of the node."""
        return dict(zip(self.node.outputs, self.cotangents, strict=False)).get(output)

    def sketch(self, value: ir.Value) -> ir.Value:
        """Return a value that nothing makes, with the type and shape of a gradient of `value`."""
        tensor = ir.TensorType(self.gradient_type(value))
        kind = value.type.elem_type if isinstance(value.type, ir.OptionalType) else value.type
        return ir.Value(
            type=ir.SequenceType(tensor) if isinstance(kind, ir.SequenceType) else tensor, shape=value.shape
        )


@dataclass(frozen=True)
class Whole:
    """A rule for all inputs of a node at once.

    Attributes:
        bodies: Tells how the node holds its bodies.
        vjp: `vjp(op, request)` yields pairs of a wanted value and a cotangent of it.
    """

    bodies: Callable[[ir.Node], list[Body]]
    vjp: Callable[["Op", Request], Iterable[Pair]]
