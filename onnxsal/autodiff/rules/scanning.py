"""Write a loop over time as ONNX's Scan."""

import onnx_ir as ir

from onnxsal.autodiff.rules.slices import flip
from onnxsal.graph.subgraph import argument, open_body, result, write
from onnxsal.graph.types import dims


def scan(op, states, items, step, *, backwards=False):
    """Run `step` along the first axis of some values.

    Args:
        op: The builder.
        states: Values that the loop carries on.
        items: Values of one length along their first axis.
        step: `step(op, states, items)` emits one step; it returns the new states, and what is stacked.
            It may read any other value of the graph.
        backwards: Begin at the end. What is stacked still lies at the place of the items it is from.
            The items are turned around for that, since ONNX's own evaluator knows no other direction.

    Returns:
        The last states, and what was stacked, each a list.
    """
    if backwards:
        finals, stacked = scan(op, states, [flip(op, v, [0]) for v in items], step)
        return finals, [flip(op, v, [0]) for v in stacked]
    inner = open_body(op, "step")
    old = [argument(inner, v) for v in states]
    new, stacked = step(inner, old, [argument(inner, sketch(v, dims(v)[1:])) for v in items])
    for value in [*new, *stacked]:
        result(inner, value)
    wholes = [sketch(v, [dims(items[0])[0], *dims(v)]) for v in stacked]
    made = write(op, "Scan", [*states, *items], [*states, *wholes], {"body": inner}, num_scan_inputs=len(items))
    return made[: len(states)], made[len(states) :]


def sketch(like, shape):
    """Return a value that nothing makes, of the type of another."""
    return ir.Value(type=like.type, shape=ir.Shape(list(shape)))
