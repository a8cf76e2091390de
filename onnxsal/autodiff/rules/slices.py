"""Rules for Slice and Pad: the one lays its cotangent into zeros, the other cuts it out.

No Scatter is used where steps and mode are known before the run: it is slow on CPU, and some
execution providers lack its reductions.
"""

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.tracing import trace
from onnxsal.graph.builder import rank
from onnxsal.graph.types import constant, dims


@vjp("Slice", wrt="data")
def slice_(op, node, g):
    count = dims(node.starts)[0] if rank(node.starts) else None
    axes = list(range(count)) if node.axes is None and isinstance(count, int) else node.const("axes")
    steps = [1] * len(axes) if node.steps is None and axes is not None else node.const("steps")
    if axes is None or steps is None:
        return trace(
            op, node.data, g, lambda x: op.Slice(x, node.starts, node.ends, node.axes, node.steps), unique=True
        )
    axes = [int(a) % rank(node.data) for a in axes]
    return lay(op, g, node.data, axes, node.starts, [int(s) for s in steps])


def lay(op, g, data, axes, starts, steps):
    """Return zeros of the shape of `data` with g laid into them.

    Along each of `axes` entry k of g comes to `start + k * step`. Starts are as in Slice: counted from
    the end where negative, cut to what there is.
    """
    g = flip(op, g, [axis for axis, step in zip(axes, steps, strict=True) if step < 0])
    known = known_margins(g, data, axes, starts, steps)
    wide = stretch(op, g, axes, steps)
    if known is None:
        before, after = margins(op, g, data, axes, starts, steps)
        wide = op.Pad(wide, op.Concat(before, op.Max(after, [0]), axis=0), op.scalar(0, like=g), axes)
    elif any(known):
        wide = op.Pad(wide, [max(p, 0) for p in known], op.scalar(0, like=g))
    # Zeros behind the last entry may reach beyond the end.
    beyond = wide is not g and (known is None or any(p < 0 for p in known)) and any(abs(s) > 1 for s in steps)
    return cut(op, wide, data, dict.fromkeys(axes, 0)) if beyond else wide


def known_margins(g, data, axes, starts, steps):
    """Return the `pads` of all axes that put g in its place, if all sizes are known, else None.

    They are negative behind g where the stretched g reaches beyond the end.
    """
    starts = constant(starts)
    sizes = [dims(data)[axis] for axis in axes]
    counts = [(dims(g) or [None] * (1 + max(axes)))[axis] for axis in axes]
    if starts is None or not all(isinstance(d, int) for d in [*sizes, *counts]):
        return None
    n = rank(data)
    pads = [0] * (2 * n)
    for axis, start, step, size, count in zip(axes, starts.ravel().tolist(), steps, sizes, counts, strict=True):
        start = min(max(start + size if start < 0 else start, 0), size - (step < 0))
        first = start + min(step, 0) * (count - 1)
        pads[axis], pads[n + axis] = first, size - first - count * abs(step)
    return pads


def margins(op, g, data, axes, starts, steps):
    """Return what lies before and behind g in `data` along each axis, each int64 (len(axes),)."""
    where = op.const(axes)
    size, count = op.Gather(op.Shape(data), where), op.Gather(op.Shape(g), where)
    start = op.cast(starts, size.dtype)
    start = op.Where(op.Less(start, [0]), op.Add(start, size), start)
    start = op.Max(op.Min(start, op.Sub(size, [int(s < 0) for s in steps])), [0])
    first = op.Add(start, op.Mul(op.Sub(count, [1]), [min(s, 0) for s in steps]))
    return first, op.Sub(op.Sub(size, first), op.Mul(count, [abs(s) for s in steps]))


def flip(op, g, axes):
    """Reverse g along some axes."""
    if not axes:
        return g
    last = np.iinfo(np.int64).min
    return op.Slice(g, [-1] * len(axes), [last] * len(axes), axes, [-1] * len(axes))


def stretch(op, g, axes, steps):
    """Put `|step| - 1` zeros behind each entry of g along each axis."""
    factors = [1] * rank(g)
    for axis, step in zip(axes, steps, strict=True):
        factors[axis] = abs(step)
    wide = [axis for axis, factor in enumerate(factors) if factor > 1]
    if not wide:
        return g
    target = op.Mul(op.shape(g), factors)
    known = dims(g)
    if all(isinstance(d, int) for d in known):
        target = op.const([d * f for d, f in zip(known, factors, strict=True)])
    inner = [axis + 1 + i for i, axis in enumerate(wide)]
    zeros = [factors[axis] - 1 for axis in wide]
    g = op.Pad(op.Unsqueeze(g, inner), [0] * len(inner) + zeros, op.scalar(0, like=g), inner)
    return op.Reshape(g, target, allowzero=1)


@vjp("Pad", wrt="data")
def pad_data(op, node, g):
    if node.attrs["mode"] != "constant":
        # Several elements of g come from one of X. Traced, as reflection or wrapping can go round more than once.
        return trace(op, node.data, g, lambda x: op.Pad(x, node.pads, None, node.axes, mode=node.attrs["mode"]))
    pads, axes, size = node.const("pads"), node.const("axes"), dims(node.data)
    if pads is None or (pads < 0).any() or (node.axes is not None and axes is None):
        return op.Pad(g, op.Neg(node.pads), op.scalar(0, like=g), node.axes)
    axes = list(range(len(size))) if axes is None else [int(a) % len(size) for a in axes]
    return cut(op, g, node.data, {a: int(p) for a, p, q in zip(axes, pads, pads[len(axes) :], strict=False) if p or q})


def cut(op, g, data, begins):
    """Return what of g has the extent of `data`, from `begins[axis]` on along each axis."""
    if not begins:
        return g
    axes, begin = list(begins), list(begins.values())
    sizes = [dims(data)[a] for a in axes]
    if all(isinstance(d, int) for d in sizes):
        return op.Slice(g, begin, [b + d for b, d in zip(begin, sizes, strict=True)], axes)
    begin = op.const(begin)
    return op.Slice(g, begin, op.Add(begin, op.Gather(op.Shape(data), op.const(axes))), axes)


@vjp("Pad", wrt="constant_value")
def pad_value(op, node, g):
    """Sum g where the padding lies."""
    one = op.scalar(1, like=g)
    padding = op.Pad(op.zeros_like(node.data), node.pads, one, node.axes)
    return op.reshape_like(op.ReduceSum(op.Mul(g, padding), keepdims=0), node.constant_value)
