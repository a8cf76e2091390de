"""Rules for normalisations over the batch, an instance, or groups of channels.

With x̂ the standardised input and q the cotangent that reaches it, the vjp of x̂ = (x - mean) * inv is
inv * (q - mean(q) - x̂ * mean(q * x̂)), the means over what was standardised together.
"""

from onnxsal.autodiff.registry import vjp
from onnxsal.graph.builder import rank


def standardise(op, x, axes, epsilon):
    """Return x̂ and inv = 1 / sqrt(variance + epsilon), of the shape that keeps reduced axes with length 1."""
    centred = op.Sub(x, op.ReduceMean(x, axes=axes))
    variance = op.ReduceMean(op.Mul(centred, centred), axes=axes)
    inv = op.Reciprocal(op.Sqrt(op.Add(variance, epsilon)))
    return op.Mul(centred, inv), inv


def unstandardise(op, q, normal, inv, axes):
    """Return the vjp of `standardise` for the cotangent q of x̂."""
    along = op.Mul(normal, op.ReduceMean(op.Mul(q, normal), axes=axes))
    return op.Mul(inv, op.Sub(op.Sub(q, op.ReduceMean(q, axes=axes)), along))


# ----- Batch -----


@vjp("BatchNormalization", wrt="X")
def batch_norm(op, node, g):
    scale = _per_channel(op, node, node.scale)
    if node.attrs["training_mode"]:
        axes = _other_axes(node.X)
        back = unstandardise(op, op.Mul(g, scale), *_batch_standard(op, node), axes)
        return _add_running(op, node, back, axes)
    return op.Mul(g, op.Mul(scale, _running_inv(op, node)))


def _add_running(op, node, back, axes):
    """Add what comes back from the running statistics, each momentum * old + (1 - momentum) * that of the batch."""
    mean, variance = (node.g(formal) for formal in ("running_mean", "running_var"))
    if mean is None and variance is None:
        return back
    fresh = 1 - node.attrs["momentum"]
    share = op.Div(fresh, op.cast(op.Div(op.Size(node.X), op.Size(node.scale)), back.dtype))
    if mean is not None:
        back = op.Add(back, op.Mul(_per_channel(op, node, mean), share))
    if variance is not None:
        centred = op.Sub(node.X, op.ReduceMean(node.X, axes=axes))
        slope = op.Mul(op.Mul(centred, 2.0), share)
        back = op.Add(back, op.Mul(_per_channel(op, node, variance), slope))
    return back


@vjp("BatchNormalization", wrt="scale")
def batch_norm_scale(op, node, g):
    normal, _ = _batch_standard(op, node)
    return op.cast(_sum_per_channel(op, op.Mul(g, normal)), node.scale.dtype)


@vjp("BatchNormalization", wrt="B")
def batch_norm_bias(op, node, g):
    return op.cast(_sum_per_channel(op, g), node.B.dtype)


@vjp("BatchNormalization", wrt="input_mean")
def batch_norm_mean(op, node, g):
    if node.attrs["training_mode"]:
        return _of_old(op, node, "running_mean")
    slope = op.Mul(_per_channel(op, node, node.scale), _running_inv(op, node))
    return op.cast(_sum_per_channel(op, op.Neg(op.Mul(g, slope))), node.input_mean.dtype)


@vjp("BatchNormalization", wrt="input_var")
def batch_norm_var(op, node, g):
    if node.attrs["training_mode"]:
        return _of_old(op, node, "running_var")
    normal, inv = _batch_standard(op, node)
    slope = op.Mul(op.Mul(_per_channel(op, node, node.scale), -0.5), op.Mul(inv, inv))
    return op.cast(_sum_per_channel(op, op.Mul(op.Mul(g, normal), slope)), node.input_var.dtype)


def _of_old(op, node, formal):
    """Return the cotangent of a running statistic that goes in, in training."""
    g = node.g(formal)
    return None if g is None else op.Mul(g, node.attrs["momentum"])


def _batch_standard(op, node):
    """Return x̂ and inv, from the running statistics or, in training mode, from those of the batch."""
    if node.attrs["training_mode"]:
        return standardise(op, node.X, _other_axes(node.X), node.attrs["epsilon"])
    inv = _running_inv(op, node)
    return op.Mul(op.Sub(node.X, _per_channel(op, node, node.input_mean)), inv), inv


def _running_inv(op, node):
    variance = op.Add(op.cast(node.input_var, node.X.dtype), node.attrs["epsilon"])
    return _per_channel(op, node, op.Reciprocal(op.Sqrt(variance)))


# ----- Instance and group -----


@vjp("InstanceNormalization", wrt="input")
def instance_norm(op, node, g):
    q = op.Mul(g, _per_channel(op, node, node.scale))
    return unstandardise(op, q, *_instance_standard(op, node))


@vjp("InstanceNormalization", wrt="scale")
def instance_norm_scale(op, node, g):
    normal, _, _ = _instance_standard(op, node)
    return _sum_per_channel(op, op.Mul(g, normal))


@vjp("InstanceNormalization", wrt="B")
@vjp("GroupNormalization", wrt="bias")
def channel_bias(op, node, g):
    return _sum_per_channel(op, g)


def _instance_standard(op, node):
    axes = list(range(2, rank(node.input)))
    return *standardise(op, node.input, axes, node.attrs["epsilon"]), axes


@vjp("GroupNormalization", wrt="X")
def group_norm(op, node, g):
    q = _grouped(op, node, op.Mul(g, _per_channel(op, node, node.scale)))
    return op.reshape_like(unstandardise(op, q, *_group_standard(op, node), [2]), node.X)


@vjp("GroupNormalization", wrt="scale")
def group_norm_scale(op, node, g):
    normal, _ = _group_standard(op, node)
    return _sum_per_channel(op, op.Mul(g, op.reshape_like(normal, node.X)))


def _group_standard(op, node):
    return standardise(op, _grouped(op, node, node.X), [2], node.attrs["epsilon"])


def _grouped(op, node, value):
    """Return (N, groups, elements)."""
    return op.Reshape(value, [0, node.attrs["num_groups"], -1])


# ----- Any axes -----


@vjp("MeanVarianceNormalization", wrt="X")
def mean_variance_norm(op, node, g):
    axes = node.attrs["axes"]
    centred = op.Sub(node.X, op.ReduceMean(node.X, axes=axes))
    deviation = op.Sqrt(op.ReduceMean(op.Mul(centred, centred), axes=axes))
    # The operator adds 1e-9 to the deviation; beside it x̂ = Y to nine digits.
    return unstandardise(op, g, node.Y, op.Reciprocal(op.Add(deviation, 1e-9)), axes)


# ----- Channels -----


def _per_channel(op, node, vector):
    """Return a vector (C,) as (C, 1, ...), which broadcasts against the node's first input."""
    x = node.inputs[0]
    vector = op.cast(vector, x.dtype)
    spatial = rank(x) - 2
    return op.Unsqueeze(vector, list(range(1, spatial + 1))) if spatial > 0 else vector


def _other_axes(x):
    """Return all axes but that of the channels."""
    return [0, *range(2, rank(x))]


def _sum_per_channel(op, value):
    return op.ReduceSum(value, axes=_other_axes(value), keepdims=0)
