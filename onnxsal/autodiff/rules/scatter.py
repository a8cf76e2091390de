"""Rules for what writes elements by index: ScatterElements and ScatterND, with each reduction.

Of the data passes what was not overwritten; the updates get the cotangent from where they were
written. With max and min what attains the result shares its cotangent evenly, as in PyTorch.
"""

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.tracing import scatter, trace


@vjp("ScatterElements", wrt="data")
@vjp("ScatterND", wrt="data")
def scatter_data(op, node, g):
    reduction = node.attrs["reduction"]
    if reduction == "add":
        return g
    if reduction == "none":
        return write(op, node, g, op.zeros_like(node.updates))
    if reduction == "mul":
        return op.Mul(g, write(op, node, ones_like(op, node.data), node.updates, "mul"))
    return op.Mul(share(op, node, g), equal(op, node.data, node.output))


@vjp("ScatterElements", wrt="updates")
@vjp("ScatterND", wrt="updates")
def scatter_updates(op, node, g):
    reduction = node.attrs["reduction"]
    if reduction in ("none", "add"):
        return read(op, node, g)
    if reduction == "mul":
        return op.Mul(read(op, node, op.Mul(g, node.data)), other_factors(op, node))
    return op.Mul(read(op, node, share(op, node, g)), equal(op, node.updates, read(op, node, node.output)))


def write(op, node, data, updates, reduction="none"):
    """Scatter other things to where `node` scatters."""
    attrs = {k: v for k, v in node.attrs.items() if k == "axis"}
    return scatter(op, getattr(op, node.op_type), data, node.indices, updates, reduction=reduction, **attrs)


def read(op, node, value):
    """Gather from where `node` scatters to."""
    if node.op_type == "ScatterND":
        return op.GatherND(value, node.indices)
    return op.GatherElements(value, node.indices, axis=node.attrs["axis"])


def share(op, node, g):
    """Divide g by how many values attain the maximum or minimum."""
    written = equal(op, node.updates, read(op, node, node.output))
    return op.Div(g, write(op, node, equal(op, node.data, node.output), written, "add"))


def other_factors(op, node):
    """Return, for each update, the product of the others written to the same place, right at zeros too."""
    one, zero = op.scalar(1, like=node.updates), op.scalar(0, like=node.updates)
    is_zero = op.Equal(node.updates, zero)
    nonzero = op.Where(is_zero, one, node.updates)
    product = read(op, node, write(op, node, ones_like(op, node.data), nonzero, "mul"))
    zeros = read(op, node, write(op, node, op.zeros_like(node.data), op.cast(is_zero, one.dtype), "add"))
    own = op.cast(is_zero, one.dtype)
    return op.Where(op.Equal(zeros, own), op.Div(product, nonzero), zero)


def equal(op, a, b):
    """Return 1 where a equals b, else 0, in their type."""
    return op.cast(op.Equal(a, b), a.dtype)


def ones_like(op, value):
    return op.Expand(op.scalar(1, like=value), op.shape(value))


@vjp("TensorScatter", wrt="past_cache")
def tensor_scatter_cache(op, node, g):
    return op.TensorScatter(g, op.zeros_like(node.update), node.write_indices, **node.attrs)


@vjp("TensorScatter", wrt="update")
def tensor_scatter_update(op, node, g):
    none = op.Expand(op.const(0), op.shape(node.past_cache))
    return trace(op, node.update, g, lambda x: op.TensorScatter(none, x, node.write_indices, **node.attrs))
