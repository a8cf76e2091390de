"""Sequences of recurrent operators, and loops over them.

Here time runs forward: what an operator reads backwards is turned around. Sequences are (T, D, N, ...)
with D directions, states (D, N, H). A step beyond a sample's length leaves its state as it is.
"""

from onnxsal.autodiff.rules.scanning import scan
from onnxsal.autodiff.rules.slices import flip


def sequences(op, node):
    """Return the input, the hidden state before each step and the one after it."""
    X = op.Transpose(node.X, perm=[1, 0, 2]) if node.attrs["layout"] else node.X
    x = op.Unsqueeze(X, [1])
    direction = node.attrs["direction"]
    if direction != "forward":
        turned = backwards(op, node, x)
        x = turned if direction == "reverse" else op.Concat(x, turned, axis=1)
    Y = node.Y if node.has("Y") else op.emit(node.op_type, *node.inputs, **node.attrs)
    after = turn(op, node, time_first(op, node, Y))
    return x, before(op, start(op, node, "initial_h", after), after), after


def start(op, node, formal, like):
    """Return an initial state; zeros, if the node has none."""
    if node.has(formal):
        return in_layout(op, node, getattr(node, formal))
    return op.Expand(op.scalar(0, like=like), op.Shape(like, start=1))


def before(op, first, after):
    """Return the states before each step, given the first and those after each."""
    return op.Concat(op.Unsqueeze(first, [0]), op.Slice(after, [0], [-1], [0]), axis=0)


def turn(op, node, value):
    """Turn around in time what the node reads, or writes, backwards. Twice is as never."""
    direction = node.attrs["direction"]
    if direction == "forward":
        return value
    if direction == "reverse":
        return backwards(op, node, value)
    one, other = op.Split(value, axis=1, num_outputs=2, outputs=2)
    return op.Concat(one, backwards(op, node, other), axis=1)


def backwards(op, node, value):
    """Reverse (T, 1, N, K) in time, each sample within its own length."""
    if not node.has("sequence_lens"):
        return flip(op, value, [0])
    lengths = op.Cast(node.sequence_lens, to=op.const(0).dtype)
    return op.Unsqueeze(op.ReverseSequence(op.Squeeze(value, [1]), lengths, time_axis=0, batch_axis=1), [1])


def time_first(op, node, value):
    """Return (T, D, N, H), whatever the node's layout."""
    return op.Transpose(value, perm=[1, 2, 0, 3]) if node.attrs["layout"] else value


def in_layout(op, node, state):
    """Return a state (D, N, H) in the node's layout, or one in that layout as (D, N, H)."""
    return op.Transpose(state, perm=[1, 0, 2]) if node.attrs["layout"] else state


# ----- Loops -----


def forth_in_time(op, node, states, items, step):
    """Run `step` from the first step to the last; return what it stacks."""
    valid = within_length(op, node, items[0])

    def whole(op, states, items):
        if valid is None:
            return step(op, states, items)
        *items, valid_now = items
        return hold(op, valid_now, step(op, states, items), states)

    return scan(op, states, items + [valid] * (valid is not None), whole)[1]


def back_in_time(op, node, names, items, step):
    """Run `step` on the cotangents of the states, from the last step to the first.

    Args:
        op: The builder.
        node: The node whose outputs have cotangents.
        names: Formal names of the last states, that of the hidden state first.
        items: What the steps read (T, D, N, ...).
        step: `step(op, cotangents, items)` returns the cotangents before the step, and what is stacked.

    Returns:
        The cotangents of the initial states, and what was stacked.
    """
    arrived = node.g("Y")
    arrived = None if arrived is None else turn(op, node, time_first(op, node, arrived))
    valid = within_length(op, node, items[0])
    states = [last(op, node, name, items[0]) for name in names]

    def whole(op, states, given):
        given = list(given)
        valid_now = given.pop() if valid is not None else None
        added = [op.Add(states[0], given.pop()), *states[1:]] if arrived is not None else states
        new = step(op, added, given)
        return new if valid_now is None else hold(op, valid_now, new, states)

    extra = [v for v in (arrived, valid) if v is not None]
    return scan(op, states, [*items, *extra], whole, backwards=True)


def last(op, node, formal, like):
    """Return the cotangent of a last state."""
    g = node.g(formal)
    return op.Expand(op.scalar(0, like=like), op.Shape(like, start=1)) if g is None else in_layout(op, node, g)


def within_length(op, node, like):
    """Tell which steps lie within each sample's length (T, 1, N, 1); None if all do."""
    if not node.has("sequence_lens"):
        return None
    lengths = op.Unsqueeze(op.Cast(node.sequence_lens, to=op.const(0).dtype), [0])
    steps = op.Range(0, op.Squeeze(op.dim(like, 0), [0]), 1)
    return op.Unsqueeze(op.Less(op.Unsqueeze(steps, [1]), lengths), [1, 3])


def hold(op, valid, made, states):
    """Keep states, and stack zeros, where a step lies beyond the sample's length."""
    new, stacked = made
    zero = op.scalar(0, like=new[0])
    return [op.Where(valid, n, s) for n, s in zip(new, states, strict=True)], [
        op.Where(valid, v, zero) for v in stacked
    ]
