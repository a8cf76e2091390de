"""Rules for normalisations.

With x̂ the standardised input and q the cotangent that reaches it, the vjp of x̂ = (x - mean) * inv is
inv * (q - mean(q) - x̂ * mean(q * x̂)), the means over what was standardised together.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import vjp
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims


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
        return unstandardise(op, op.Mul(g, scale), *_batch_standard(op, node), axes)
    return op.Mul(g, op.Mul(scale, _running_inv(op, node)))


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
        return None
    slope = op.Mul(_per_channel(op, node, node.scale), _running_inv(op, node))
    return op.cast(_sum_per_channel(op, op.Neg(op.Mul(g, slope))), node.input_mean.dtype)


@vjp("BatchNormalization", wrt="input_var")
def batch_norm_var(op, node, g):
    if node.attrs["training_mode"]:
        return None
    normal, inv = _batch_standard(op, node)
    slope = op.Mul(op.Mul(_per_channel(op, node, node.scale), -0.5), op.Mul(inv, inv))
    return op.cast(_sum_per_channel(op, op.Mul(op.Mul(g, normal), slope)), node.input_var.dtype)


def _batch_standard(op, node):
    """Return x̂ and inv, from the running statistics or, in training mode, from those of the batch."""
    if node.attrs["training_mode"]:
        return standardise(op, node.X, _other_axes(node.X), node.attrs["epsilon"])
    inv = _running_inv(op, node)
    return op.Mul(op.Sub(node.X, _per_channel(op, node, node.input_mean)), inv), inv


def _running_inv(op, node):
    variance = op.Add(op.cast(node.input_var, node.X.dtype), node.attrs["epsilon"])
    return _per_channel(op, node, op.Reciprocal(op.Sqrt(variance)))


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


# ----- Layer and root mean square -----


@vjp("LayerNormalization", wrt="X")
def layer_norm(op, node, g):
    axes = _last_axes(node)
    normal, inv = _layer_standard(op, node, axes)
    q = op.Mul(g, op.cast(node.Scale, g.dtype))
    return unstandardise(op, q, normal, inv, axes)


@vjp("LayerNormalization", wrt="Scale")
def layer_norm_scale(op, node, g):
    normal, _ = _layer_standard(op, node, _last_axes(node))
    return op.Mul(g, normal)


@vjp("LayerNormalization", wrt="B")
def layer_norm_bias(op, node, g):
    return g


def _last_axes(node):
    n = rank(node.X)
    return list(range(node.attrs["axis"] % n, n))


def _layer_standard(op, node, axes):
    X, epsilon = node.X, node.attrs["epsilon"]
    if X.dtype != ir.DataType.FLOAT:  # the second and third output are float32 by definition
        return standardise(op, X, axes, epsilon)
    # One kernel instead of seven: x̂ is the same normalisation with a scale of one.
    sizes = (dims(X) or ())[axes[0] :]
    ones = (
        op.const(np.ones(sizes, np.float32))
        if all(isinstance(d, int) for d in sizes)
        else op.Expand(1.0, op.Shape(X, start=axes[0]))
    )
    normal, _, inv = op.LayerNormalization(X, ones, axis=axes[0], epsilon=epsilon, outputs=3)
    return normal, inv
