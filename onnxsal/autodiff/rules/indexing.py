"""Rules for what picks elements by index: the cotangent goes back to where they were picked.

Constant indices that never pick twice need no Scatter. That covers a class token, the parting of
queries, keys and values, and shuffled channels.
"""

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.slices import lay
from onnxsal.autodiff.rules.tracing import scatter, trace
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims


@vjp("Gather", wrt="data")
def gather(op, node, g):
    axis = node.attrs["axis"] % rank(node.data)
    indices = node.const("indices")
    if indices is not None and indices.ndim <= 1 and indices.size:
        spread = g if indices.ndim else op.Unsqueeze(g, [axis])
        step = progression(indices.ravel())
        if step:
            return lay(op, spread, node.data, [axis], op.const(indices.reshape(-1)[:1]), [step])
        back = inverse(indices, dims(node.data)[axis])
        if back is not None:
            return regather(op, g, back, axis)
    return trace(op, node.data, g, lambda x: op.Gather(x, node.indices, axis=axis))


def progression(indices):
    """Return the step between indices that lie evenly, all counted from the same end; else None."""
    steps = np.unique(np.diff(indices))
    if indices.size == 1:
        return 1
    same_end = (indices >= 0).all() or (indices < 0).all()
    return int(steps[0]) if steps.size == 1 and same_end else None


def inverse(indices, size):
    """Return, for each place in 0..size, which entry of `indices` names it, -1 for none; None if one is named twice."""
    if not isinstance(size, int):
        return None
    places = indices % size
    if np.unique(places).size < places.size:
        return None
    back = np.full(size, -1, np.int64)
    back[places] = np.arange(places.size)
    return back


def regather(op, g, back, axis):
    """Put each entry of g where `back` wants it, zeros where it says -1."""
    if (back < 0).any():  # a zero behind the last entry is what -1 picks
        g = op.Pad(g, [0, 1], op.scalar(0, like=g), [axis])
    return op.Gather(g, op.const(back), axis=axis)


@vjp("GatherElements", wrt="data")
def gather_elements(op, node, g):
    return scatter(
        op, op.ScatterElements, op.zeros_like(node.data), node.indices, g, axis=node.attrs["axis"], reduction="add"
    )


@vjp("GatherND", wrt="data")
def gather_nd(op, node, g):
    batch_dims = node.attrs["batch_dims"]
    if batch_dims == 0:
        return scatter(op, op.ScatterND, op.zeros_like(node.data), node.indices, g, reduction="add")
    return trace(op, node.data, g, lambda x: op.GatherND(x, node.indices, batch_dims=batch_dims))


@vjp("Compress", wrt="input")
def compress(op, node, g):
    axis = node.attrs.get("axis")
    return trace(op, node.input, g, lambda x: op.Compress(x, node.condition, axis=axis), unique=True)


@vjp("Unique", wrt="X")
def unique(op, node, g):
    """Give each cotangent to the first of the equal elements, or slices, that it stands for."""
    axis = node.attrs.get("axis")
    _, first = op.Unique(node.X, outputs=2, axis=axis, sorted=node.attrs["sorted"])

    def move(x):
        return op.Gather(op.Reshape(x, [-1]) if axis is None else x, first, axis=axis or 0)

    return trace(op, node.X, g, move, unique=True)


@vjp("OneHot", wrt="values")
def one_hot_values(op, node, g):
    # ONNX Runtime has a kernel for int64 throughout, and few others.
    indices, depth = (op.cast(v, op.const(0).dtype) for v in (node.indices, node.depth))
    return trace(op, node.values, g, lambda x: op.OneHot(indices, depth, x, axis=node.attrs["axis"]))


@vjp("TopK", wrt="X")
def top_k(op, node, g):
    return op.ScatterElements(op.zeros_like(node.X), node.Indices, g, axis=node.attrs["axis"])
