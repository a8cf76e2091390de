"""Write a loop over time as ONNX's Scan."""

import onnx_ir as ir

from onnxsal.autodiff.rules.slices import flip
from onnxsal.graph.builder import Op
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
    body = ir.Graph([], [], nodes=[], opset_imports={"": op.opset}, name=op.fresh("step"))
    inner = Op(body, op.opset, outer=op)
    old = [_argument(inner, v, dims(v)) for v in states]
    new, stacked = step(inner, old, [_argument(inner, v, dims(v)[1:]) for v in items])
    for value in [*new, *stacked]:
        body.outputs.append(_own(inner, value))
    node = ir.Node(
        "",
        "Scan",
        [*states, *items],
        [ir.AttrGraph("body", body), ir.AttrInt64("num_scan_inputs", len(items))],
        outputs=[ir.Value(name=op.fresh(f"{body.name}_{i}")) for i in range(len(body.outputs))],
        name=op.fresh(f"{body.name}/Scan"),
    )
    op.graph.append(node)
    for value, like in zip(node.outputs, states, strict=False):
        value.type, value.shape = like.type, like.shape
    for value, one in zip(node.outputs[len(states) :], stacked, strict=True):
        value.type, value.shape = one.type, ir.Shape([dims(items[0])[0], *dims(one)])
    return node.outputs[: len(states)], node.outputs[len(states) :]


def _argument(inner, like, shape):
    value = ir.Value(name=inner.fresh(f"{inner.graph.name}/item"), type=like.type, shape=ir.Shape(shape))
    inner.graph.inputs.append(value)
    return value


def _own(inner, value):
    """Return a value fit for an output of the subgraph: made there, and no output yet."""
    node = value.producer()
    if node is not None and node.graph is inner.graph and value not in inner.graph.outputs:
        return value
    return inner.Identity(value)
