"""Rules for normalisations over the last axes: LayerNormalization and RMSNormalization."""

import math

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.norm import standardise, unstandardise
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims

# ----- LayerNormalization -----


@vjp("LayerNormalization", wrt="X")
def layer_norm(op, node, g):
    axes = _last_axes(node)
    normal, inv = _standard(op, node)
    result = unstandardise(op, op.Mul(g, node.Scale), normal, inv, axes)
    for share in _shares_of_statistics(op, node, normal, inv):
        result = op.Add(result, share)
    return result


def _shares_of_statistics(op, node, normal, inv):
    """Return the vjps of the outputs Mean and InvStdDev, where cotangents arrive there."""
    mean, deviation = (node.g(name) for name in ("Mean", "InvStdDev"))
    if mean is not None:
        yield op.Div(op.cast(mean, normal.dtype), _count(op, node))
    if deviation is not None:
        slope = op.Neg(op.Mul(op.Mul(inv, inv), normal))
        yield op.Div(op.Mul(op.cast(deviation, normal.dtype), slope), _count(op, node))


@vjp("LayerNormalization", wrt="Scale")
def layer_norm_scale(op, node, g):
    normal, _ = _standard(op, node)
    return op.Mul(g, normal)


@vjp("LayerNormalization", wrt="B")
def layer_norm_bias(op, node, g):
    return g


def _standard(op, node):
    """Return x̂ and inv."""
    X, axes, epsilon = node.X, _last_axes(node), node.attrs["epsilon"]
    if X.dtype != ir.DataType.FLOAT:  # the operator hands out its statistics in float32 only
        return standardise(op, X, axes, epsilon)
    # One kernel instead of seven: x̂ is the same normalisation with a scale of one.
    normal, _, inv = op.LayerNormalization(X, _ones(op, X, axes), axis=axes[0], epsilon=epsilon, outputs=3)
    return normal, inv


def _ones(op, x, axes):
    sizes = [dims(x)[a] for a in axes]
    if all(isinstance(d, int) for d in sizes):
        return op.const(np.ones(sizes, np.float32))
    return op.Expand(op.scalar(1, like=x), op.Shape(x, start=axes[0]))


def _last_axes(node):
    n = rank(node.X)
    return list(range(node.attrs["axis"] % n, n))


def _count(op, node):
    """Return how many elements are normalised together, in the type of X."""
    X, axes = node.X, _last_axes(node)
    sizes = [dims(X)[a] for a in axes]
    if all(isinstance(d, int) for d in sizes):
        return op.scalar(math.prod(sizes), like=X)
    return op.cast(op.ReduceProd(op.Shape(X, start=axes[0]), keepdims=0), X.dtype)


# ----- RMSNormalization -----


@vjp("RMSNormalization", wrt="X")
def rms_norm(op, node, g):
    X, axes = node.X, _last_axes(node)
    normal, inv = _rms_standard(op, node)
    q = op.cast(op.Mul(g, node.scale), X.dtype)
    return op.Mul(inv, op.Sub(q, op.Mul(normal, op.ReduceMean(op.Mul(q, normal), axes=axes))))


@vjp("RMSNormalization", wrt="scale")
def rms_norm_scale(op, node, g):
    normal, _ = _rms_standard(op, node)
    return op.Mul(g, op.cast(normal, g.dtype))


def _rms_standard(op, node):
    """Return X / rms and 1 / rms."""
    X = node.X
    square = op.ReduceMean(op.Mul(X, X), axes=_last_axes(node))
    inv = op.Reciprocal(op.Sqrt(op.Add(square, node.attrs["epsilon"])))
    return op.Mul(X, inv), inv
