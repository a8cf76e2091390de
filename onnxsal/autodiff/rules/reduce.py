"""Rules for reductions and running sums.

Axes are an input, constant almost always. Without axes everything is reduced, or with
`noop_with_empty_axes` nothing is.
"""

import math

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.global_pool import spread_mean
from onnxsal.autodiff.rules.windows import counting_type
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims


def reduced_axes(node):
    """Return the reduced axes, none of them negative; None where only the run can tell."""
    axes, n = node.const("axes"), rank(node.data)
    if axes is None and node.has("axes"):
        return None
    if axes is None or axes.size == 0:
        return [] if node.attrs["noop_with_empty_axes"] else list(range(n))
    return sorted(int(a) % n for a in axes)


def kept(op, node, value):
    """Return a value of the output's shape with the reduced axes in it, of length 1."""
    axes = reduced_axes(node)
    if node.attrs["keepdims"] or axes == []:
        return value
    return op.Reshape(value, op.Shape(_kept_sum(op, node, node.data))) if axes is None else op.Unsqueeze(value, axes)


def _kept_sum(op, node, value):
    """Sum a value of the input's shape over the reduced axes, which stay with length 1."""
    noop = node.attrs["noop_with_empty_axes"]
    return op.ReduceSum(value, node.axes, keepdims=1, noop_with_empty_axes=noop)


def spread(op, node, g):
    """Repeat a cotangent along the reduced axes, to the shape of the input."""
    if 0 in (dims(node.data) or ()):
        # ONNX Runtime takes an Expand from 1 to 0 for one that changes nothing, and drops it.
        return op.zeros_like(node.data)
    return g if reduced_axes(node) == [] else op.Expand(kept(op, node, g), op.shape(node.data))


# ----- Sums -----


@vjp("ReduceSum", wrt="data")
def reduce_sum(op, node, g):
    return spread(op, node, g)


@vjp("ReduceMean", wrt="data")
def reduce_mean(op, node, g):
    if rank(node.data) > 2 and reduced_axes(node) == list(range(2, rank(node.data))):
        return spread_mean(op, node.data, kept(op, node, g))  # newer exporters' GlobalAveragePool
    count = _static_count(node)
    if count is not None:
        return spread(op, node, g if count == 1 else op.Mul(g, 1 / count))
    n, groups = (op.cast(op.Size(v), counting_type(g)) for v in (node.data, node.reduced))
    return spread(op, node, op.Mul(g, op.cast(op.Div(groups, n), g.dtype)))


def _static_count(node):
    """Return how many elements make one of the output, or None where only the run can tell."""
    axes = reduced_axes(node)
    if axes is None:
        return None
    sizes = [dims(node.data)[a] for a in axes]
    return math.prod(sizes) if all(isinstance(d, int) for d in sizes) else None


@vjp("ReduceSumSquare", wrt="data")
def reduce_sum_square(op, node, g):
    return op.Mul(node.data, op.Mul(kept(op, node, g), 2.0))


@vjp("ReduceL1", wrt="data")
def reduce_l1(op, node, g):
    return op.Mul(op.Sign(node.data), kept(op, node, g))


@vjp("ReduceL2", wrt="data")
def reduce_l2(op, node, g):
    """Return g * x / |x|, and 0 where all x are 0."""
    norm = op.Where(op.Equal(node.reduced, 0.0), 1.0, node.reduced)
    return op.Mul(node.data, kept(op, node, op.Div(g, norm)))


@vjp("ReduceLogSum", wrt="data")
def reduce_log_sum(op, node, g):
    return spread(op, node, op.Div(g, op.Exp(node.reduced)))


@vjp("ReduceLogSumExp", wrt="data")
def reduce_log_sum_exp(op, node, g):
    # Where all is exp(-inf) the log is -inf, and inf - inf no number.
    total = op.Where(op.Equal(node.reduced, -math.inf), 0.0, node.reduced)
    return op.Mul(op.Exp(op.Sub(node.data, kept(op, node, total))), kept(op, node, g))


# ----- Extrema and products -----


@vjp("ReduceMax", wrt="data")
@vjp("ReduceMin", wrt="data")
def reduce_extremum(op, node, g):
    """Give g to the winners; those that tie share it evenly.

    That is torch.amax; torch.max(dim) gives all to the first. The graph does not say which it was.
    """
    won = op.cast(op.Equal(node.data, kept(op, node, node.reduced)), g.dtype)
    return op.Mul(won, op.Div(kept(op, node, g), _kept_sum(op, node, won)))


@vjp("ReduceProd", wrt="data")
def reduce_prod(op, node, g):
    """Return g times the product of the others, which a single zero leaves standing for itself alone."""
    zero = op.Equal(node.data, 0.0)
    rest = op.Where(zero, 1.0, node.data)
    noop = node.attrs["noop_with_empty_axes"]
    product = op.ReduceProd(rest, node.axes, keepdims=1, noop_with_empty_axes=noop)
    zeros = _kept_sum(op, node, op.cast(zero, g.dtype))
    others = op.Sub(zeros, op.cast(zero, g.dtype))
    slope = op.Where(op.Equal(others, 0.0), op.Div(product, rest), 0.0)
    return op.Mul(kept(op, node, g), slope)


@vjp("CumSum", wrt="x")
def cum_sum(op, node, g):
    exclusive, reverse = node.attrs["exclusive"], node.attrs["reverse"]
    return op.CumSum(g, node.axis, exclusive=exclusive, reverse=1 - reverse)


@vjp("CumProd", wrt="x")
def cum_prod(op, node, g):
    """Return the sum of g * y from each x on, divided by x.

    Beyond the first zero along the axis all y are 0, so nothing comes to what lies there. The zero itself
    gets what the sum is with a 1 in its place.
    """
    exclusive, reverse = node.attrs["exclusive"], node.attrs["reverse"]
    zero = op.Equal(node.x, 0.0)
    zeros = op.CumSum(op.cast(zero, g.dtype), node.axis, reverse=reverse)
    first = op.And(zero, op.Equal(zeros, 1.0))
    without = op.CumProd(op.Where(first, 1.0, node.x), node.axis, exclusive=exclusive, reverse=reverse)

    def onwards(y):
        return op.CumSum(op.Mul(g, y), node.axis, exclusive=exclusive, reverse=1 - reverse)

    others = op.Div(onwards(node.y), op.Where(zero, 1.0, node.x))
    return op.Where(first, onwards(without), op.Where(zero, 0.0, others))
