"""Loop and Scan, seen alike: a body that runs turn by turn, hands states on, and reads and writes slices."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.bodies import Body
from onnxsal.graph.subgraph import argument, loop_arguments, open_body, replay, result, write
from onnxsal.graph.types import constant, dims


@dataclass(frozen=True)
class State:
    """What one turn hands to the next.

    Attributes:
        initial: The node's input.
        before: The body's input.
        after: The body's output.
        final: The node's output.
    """

    initial: ir.Value
    before: ir.Value
    after: ir.Value
    final: ir.Value


@dataclass(frozen=True)
class Sliced:
    """What turns read, or write, slice by slice.

    Attributes:
        whole: The node's input or output.
        slice: The body's.
        axis: Along which the slices lie; negative ones count from the end.
        backwards: Whether the first turn has the last slice.
    """

    whole: ir.Value
    slice: ir.Value
    axis: int = 0
    backwards: bool = False


@dataclass(frozen=True)
class Turns:
    """A Loop or a Scan.

    Attributes:
        node: The node.
        graph: Its body.
        states: What is handed on.
        read: What is read slice by slice.
        written: What is written slice by slice.
    """

    node: ir.Node
    graph: ir.Graph
    states: list[State]
    read: list[Sliced]
    written: list[Sliced]


def turns_of(node):
    """Read a Loop or a Scan."""
    return (loop if node.op_type == "Loop" else scan)(node)


def loop(node):
    graph = node.attributes["body"].as_graph()
    after, finals = graph.outputs[1:], node.outputs
    states = [State(*s) for s in zip(node.inputs[2:], graph.inputs[2:], after, finals, strict=False)]
    n = len(states)
    written = [Sliced(whole, one) for whole, one in zip(finals[n:], after[n:], strict=False)]
    return Turns(node, graph, states, [], written)


def scan(node):
    graph, attributes = node.attributes["body"].as_graph(), node.attributes
    count = attributes.get_int("num_scan_inputs")
    n = len(node.inputs) - count
    states = [State(*s) for s in zip(node.inputs[:n], graph.inputs, graph.outputs, node.outputs, strict=False)]
    read = zip(node.inputs[n:], graph.inputs[n:], *ways(attributes, "input", count), strict=True)
    outputs = list(zip(node.outputs[n:], graph.outputs[n:], strict=True))
    written = (
        zip(*zip(*outputs, strict=True), *ways(attributes, "output", len(outputs)), strict=True) if outputs else []
    )
    return Turns(node, graph, states, [Sliced(*r) for r in read], [Sliced(*w) for w in written])


def ways(attributes, side, count):
    """Return the axes and directions of a Scan's inputs or outputs."""
    axes = attributes.get_ints(f"scan_{side}_axes") or [0] * count
    directions = attributes.get_ints(f"scan_{side}_directions") or [0] * count
    return [list(axes), [bool(d) for d in directions]]


def bodies(node):
    turns = turns_of(node)
    enters = [(s.initial, s.before) for s in turns.states] + [(r.whole, r.slice) for r in turns.read]
    leaves = [(s.after, s.final) for s in turns.states] + [(w.slice, w.whole) for w in turns.written]
    return [Body(turns.graph, "body", enters, leaves, [(s.after, s.before) for s in turns.states])]


# ----- How many turns -----


def count_turns(op, turns):
    """Return how often the body runs, an int64 scalar."""
    if turns.read:
        first = turns.read[0]
        return op.Squeeze(op.dim(first.whole, first.axis), [0])
    most = (*turns.node.inputs, None)[0]
    if most is None or not never_stops(turns):
        numbers = record(op, turns, turns.graph.inputs[0])
        return op.Squeeze(op.Shape(numbers, start=0, end=1), [0])
    known = constant(most)
    if known is not None:
        return op.const(max(int(known.item()), 0))
    return op.Max(most if dims(most) == () else op.Reshape(most, np.array([], np.int64)), 0)


def never_stops(turns):
    """Tell whether a Loop surely runs as often as its first input says."""
    given = (*turns.node.inputs, None, None)[1]
    start = constant(given)
    if given is not None and (start is None or not start.all()):
        return False
    going, begin = turns.graph.outputs[0], turns.graph.inputs[1]
    while (node := going.producer()) is not None and node.op_type in ("Identity", "Cast") and going is not begin:
        going = node.inputs[0]
    if node is not None and node.op_type == "Constant":
        return bool(ir.convenience.get_const_tensor(going).numpy().all())
    return going is begin or (constant(going) is not None and bool(constant(going).all()))


# ----- What was there before a turn -----


def is_stackable(state):
    """Tell whether a state surely has the same shape before each turn."""
    return isinstance(state.before.type, ir.TensorType) and None not in (dims(state.before) or (None,))


def record(op, turns, value):
    """Let the node also stack a value of its body, one entry per turn along a first axis; return the stack."""
    node, graph = turns.node, turns.graph
    for whole, one in zip(reversed(node.outputs), reversed(graph.outputs), strict=False):
        made = one.producer()
        if made is not None and made.op_type == "Identity" and made.inputs[0] is value and whole.meta.get("record"):
            return whole
    copy = ir.Value(name=op.fresh(f"{value.name}_recorded"), type=value.type, shape=value.shape)
    graph.append(ir.Node("", "Identity", [value], outputs=[copy], name=copy.name))
    graph.outputs.append(copy)
    node.resize_outputs(len(node.outputs) + 1)
    whole = node.outputs[-1]
    whole.name, whole.type = op.fresh(f"{value.name}_all"), value.type
    whole.shape = ir.Shape([None, *dims(value)])
    whole.meta["record"] = True
    for name in ("scan_output_axes", "scan_output_directions"):
        if name in node.attributes:
            node.attributes[name] = ir.AttrInt64s(name, [*node.attributes.get_ints(name), 0])
    return whole


def run_until(op, turns, turn):
    """Run a Loop anew up to a turn; return its states before that.

    It takes a time that grows with the square of the turns, but serves states of any kind: sequences, and
    tensors whose shape changes from turn to turn.
    """
    inner = open_body(op, "again")
    given = [*loop_arguments(inner), *(argument(inner, s.before) for s in turns.states)]
    for value in replay(inner, turns.graph, given)[: 1 + len(turns.states)]:
        result(inner, value)
    condition = (*turns.node.inputs, None, None)[1]
    initial = [s.initial for s in turns.states]
    return write(op, "Loop", [turn, condition, *initial], [s.before for s in turns.states], {"body": inner})
