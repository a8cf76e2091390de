"""Rules for RNN, GRU and LSTM: back through time.

The gates are computed anew for all steps at once, from the hidden states that the operator returned;
only LSTM's cell needs a loop for that. A Scan then carries the cotangent of the state from the last
step to the first, and what it leaves behind, the cotangents of the gates, is all that the rules need.
"""

from dataclasses import dataclass

import onnx_ir as ir

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.masks import positive
from onnxsal.autodiff.rules.sequences import back_in_time, before, forth_in_time, in_layout, sequences, start, turn
from onnxsal.errors import MissingRule

FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # activation functions per direction


@dataclass(frozen=True)
class Backward:
    """What the rules of one node's inputs share.

    Attributes:
        x: What the steps read (T, D, N, I).
        hidden: The state before each step (T, D, N, H).
        of_x: Cotangents of the gates before their activation, where x enters (T, D, N, G * H).
        of_h: The same where the state enters; the last gate's differs with GRU's `linear_before_reset`.
        read: What the last gate reads as state; it differs from `hidden` without that.
        states: Cotangents of the initial state, and of LSTM's initial cell, each (D, N, H).
        peepholes: Cotangent of LSTM's peephole weights (D, 3 * H).
    """

    x: ir.Value
    hidden: ir.Value
    of_x: ir.Value
    of_h: ir.Value
    read: ir.Value
    states: list[ir.Value]
    peepholes: ir.Value | None = None


@vjp("RNN", wrt="X")
@vjp("GRU", wrt="X")
@vjp("LSTM", wrt="X")
def data(op, node, g):
    each = turn(op, node, op.MatMul(node.once(back).of_x, node.W))
    total = op.ReduceSum(each, [1], keepdims=0)
    return op.Transpose(total, perm=[1, 0, 2]) if node.attrs["layout"] else total


@vjp("RNN", wrt="W")
@vjp("GRU", wrt="W")
@vjp("LSTM", wrt="W")
def weight(op, node, g):
    return products(op, node.once(back).of_x, node.once(back).x)


@vjp("RNN", wrt="R")
@vjp("GRU", wrt="R")
@vjp("LSTM", wrt="R")
def recurrence(op, node, g):
    shared = node.once(back)
    if shared.read is shared.hidden:
        return products(op, shared.of_h, shared.hidden)
    dz, dr, dh = split(op, shared.of_h, 3)
    parts = [(dz, shared.hidden), (dr, shared.hidden), (dh, shared.read)]
    return op.Concat(*[products(op, d, h) for d, h in parts], axis=1)


@vjp("RNN", wrt="B")
@vjp("GRU", wrt="B")
@vjp("LSTM", wrt="B")
def bias(op, node, g):
    shared = node.once(back)
    return op.Concat(*[op.ReduceSum(d, [0, 2], keepdims=0) for d in (shared.of_x, shared.of_h)], axis=1)


@vjp("RNN", wrt="initial_h")
@vjp("GRU", wrt="initial_h")
@vjp("LSTM", wrt="initial_h")
def initial_h(op, node, g):
    return in_layout(op, node, node.once(back).states[0])


@vjp("LSTM", wrt="initial_c")
def initial_c(op, node, g):
    return in_layout(op, node, node.once(back).states[1])


@vjp("LSTM", wrt="P")
def peepholes(op, node, g):
    return node.once(back).peepholes


def back(op, node):
    """Emit the way back through time of one node."""
    return {"RNN": rnn, "GRU": gru, "LSTM": lstm}[node.op_type](op, node, *functions(node))


# ----- One operator each -----


def rnn(op, node, f):
    """H = f(x W + h R + b)."""
    x, hidden, after = sequences(op, node)

    def step(op, states, items):
        gate = op.Mul(states[0], items[0])
        return [op.MatMul(gate, node.R)], [gate]

    states, (gates,) = back_in_time(op, node, ["Y_h"], [f.slope(op, after)], step)
    return Backward(x, hidden, gates, gates, hidden, states)


def gru(op, node, f, g):
    """H = (1 - z) c + z h, with c = g(x W + r (h R + b) + b) or, not linear before reset, g(x W + (r h) R + b)."""
    linear = node.attrs["linear_before_reset"]
    x, hidden, _ = sequences(op, node)
    b, c = biases(op, node)
    xz, xr, xc = split(op, affine(op, x, node.W, b), 3)
    Rz, Rr, Rc = split(op, node.R, 3, axis=1)
    bz, br, bc = split(op, c, 3) if c is not None else [None] * 3
    z = f.apply(op, op.Add(xz, affine(op, hidden, Rz, bz)))
    r = f.apply(op, op.Add(xr, affine(op, hidden, Rr, br)))
    reset = affine(op, hidden, Rc, bc) if linear else hidden
    read = hidden if linear else op.Mul(r, hidden)
    new = g.apply(op, op.Add(xc, op.Mul(r, reset) if linear else affine(op, read, Rc, bc)))
    to_z = op.Mul(op.Sub(hidden, new), f.slope(op, z))
    to_r = op.Mul(reset, f.slope(op, r))
    to_new = op.Mul(op.Sub(op.scalar(1, like=z), z), g.slope(op, new))
    both = op.Concat(Rz, Rr, axis=1)

    def step(op, states, items):
        (of_h,), (to_z, to_r, to_new, z, r) = states, items
        dz, dc = op.Mul(of_h, to_z), op.Mul(of_h, to_new)
        through = op.MatMul(op.Mul(dc, r) if linear else dc, Rc)
        dr = op.Mul(dc if linear else through, to_r)
        through = op.Add(through if linear else op.Mul(through, r), op.Mul(of_h, z))
        return [op.Add(through, op.MatMul(op.Concat(dz, dr, axis=-1), both))], [op.Concat(dz, dr, dc, axis=-1)]

    states, (gates,) = back_in_time(op, node, ["Y_h"], [to_z, to_r, to_new, z, r], step)
    dz, dr, dc = split(op, gates, 3)
    of_h = op.Concat(dz, dr, op.Mul(dc, r), axis=-1) if linear else gates
    return Backward(x, hidden, gates, of_h, read, states)


def lstm(op, node, f, g, h):
    """C = f c + i g(..), H = o h(C)."""
    x, hidden, _ = sequences(op, node)
    b, c = biases(op, node)
    i, o, forget, new = split(op, op.Add(affine(op, x, node.W, b), affine(op, hidden, node.R, c)), 4)
    peep = [op.Unsqueeze(p, [1]) for p in split(op, node.P, 3)] if node.has("P") else None
    new = g.apply(op, new)
    i, forget, cell = cells(op, node, f, (i, forget, new), peep)
    past = before(op, start(op, node, "initial_c", cell), cell)
    o = f.apply(op, op.Add(o, op.Mul(peep[1], cell)) if peep else o)
    seen = h.apply(op, cell)
    to_o, to_cell = op.Mul(seen, f.slope(op, o)), op.Mul(o, h.slope(op, seen))
    to_i, to_forget = op.Mul(new, f.slope(op, i)), op.Mul(past, f.slope(op, forget))
    to_new = op.Mul(i, g.slope(op, new))

    def step(op, states, items):
        (of_h, of_c), (to_o, to_cell, to_i, to_forget, to_new, forget) = states, items
        do = op.Mul(of_h, to_o)
        of_c = op.Add(of_c, op.Mul(of_h, to_cell))
        of_c = op.Add(of_c, op.Mul(peep[1], do)) if peep else of_c
        di, df, dn = op.Mul(of_c, to_i), op.Mul(of_c, to_forget), op.Mul(of_c, to_new)
        of_c = op.Mul(of_c, forget)
        of_c = op.Add(of_c, op.Add(op.Mul(peep[0], di), op.Mul(peep[2], df))) if peep else of_c
        gates = op.Concat(di, do, df, dn, axis=-1)
        return [op.MatMul(gates, node.R), of_c], [gates]

    states, (gates,) = back_in_time(op, node, ["Y_h", "Y_c"], [to_o, to_cell, to_i, to_forget, to_new, forget], step)
    di, do, df, _ = split(op, gates, 4)
    sums = [op.ReduceSum(op.Mul(d, v), [0, 2], keepdims=0) for d, v in ((di, past), (do, cell), (df, past))]
    return Backward(x, hidden, gates, gates, hidden, states, op.Concat(*sums, axis=1))


def cells(op, node, f, gates, peep):
    """Return LSTM's input gate, forget gate and cell at all steps, each (T, D, N, H)."""
    i, forget, new = gates
    if peep is None:
        i, forget = f.apply(op, i), f.apply(op, forget)

    def step(op, states, items):
        (cell,), (i, forget, new) = states, items
        if peep is not None:
            i = f.apply(op, op.Add(i, op.Mul(peep[0], cell)))
            forget = f.apply(op, op.Add(forget, op.Mul(peep[2], cell)))
        cell = op.Add(op.Mul(forget, cell), op.Mul(i, new))
        return [cell], [cell] if peep is None else [i, forget, cell]

    stacked = forth_in_time(op, node, [start(op, node, "initial_c", new)], [i, forget, new], step)
    return stacked if peep else [i, forget, *stacked]


# ----- Parts -----


def split(op, value, count, axis=-1):
    return op.Split(value, axis=axis, num_outputs=count, outputs=count)


def biases(op, node):
    """Return the bias of W and that of R, each (D, G * H), or None."""
    return split(op, node.B, 2, axis=1) if node.has("B") else (None, None)


def affine(op, x, weight, bias):
    product = op.MatMul(x, op.Transpose(weight, perm=[0, 2, 1]))
    return product if bias is None else op.Add(product, op.Unsqueeze(bias, [1]))


def products(op, a, b):
    """Sum the outer products of two sequences: (T, D, N, P) and (T, D, N, Q) to (D, P, Q)."""
    return op.Einsum(a, b, equation="tdnp,tdnq->dpq")


@dataclass(frozen=True)
class Function:
    """An activation: the operator, and its derivative told from its output."""

    name: str

    def apply(self, op, value):
        """Return the function of a value."""
        return getattr(op, self.name)(value)

    def slope(self, op, y):
        """Return the derivative where the function is y."""
        if self.name == "Relu":
            return positive(op, y)
        one = op.scalar(1, like=y)
        return op.Sub(one, op.Mul(y, y)) if self.name == "Tanh" else op.Mul(y, op.Sub(one, y))


def functions(node):
    """Return the activation functions; both directions must have the same."""
    count = FUNCTIONS[node.op_type]
    usual = ["Tanh"] if node.op_type == "RNN" else ["Sigmoid", "Tanh", "Tanh"]
    names = [n.capitalize() for n in node.attrs.get("activations") or usual[:count] * 2]
    both = node.attrs["direction"] == "bidirectional"
    unfit = [n for n in names if n not in ("Tanh", "Sigmoid", "Relu")]
    if both and names[:count] != names[count : 2 * count]:
        unfit.append("different ones for the two directions")
    unfit += [f"{name}={node.attrs[name]}" for name in ("clip", "input_forget") if node.attrs.get(name)]
    if unfit:
        raise MissingRule(
            f"no vjp rule for {node.op_type} (node {node.name!r}) with {', '.join(unfit)}: Tanh, Sigmoid and Relu "
            f"are covered, without clip and input_forget; explain a layer behind it"
        )
    return [Function(name) for name in names[:count]]
