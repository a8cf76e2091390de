"""Where the windows of a convolution or pooling lie on its input."""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import HALVES, constant, dims


def spatial(value):
    """Return the sizes behind batch and channels, or None unless all are numbers."""
    shape = dims(value)
    if shape is None or not all(isinstance(d, int) for d in shape[2:]):
        return None
    return list(shape[2:])


def spatial_shape(op, value):
    """Return the sizes behind batch and channels as int64 (n,): a constant where they are known."""
    known = spatial(value)
    return op.const(np.array(known, np.int64)) if known is not None else op.Shape(value, start=2)


def dilations(node):
    """Return the dilations; canonical form leaves them to their default on poolings."""
    return node.attrs.get("dilations") or [1] * len(node.attrs["strides"])


def reach(node):
    """Return how far a window reaches along each axis, its first element to its last, both counted."""
    return [(k - 1) * d + 1 for k, d in zip(node.attrs["kernel_shape"], dilations(node), strict=True)]


def unread(X, Y, reach, strides, pads):
    """Count the last entries of X, padding included, that no window reads; sizes as numbers.

    A stride can leave some over, fewer than itself. Negative where a window reaches beyond the padding,
    as `ceil_mode` lets it.
    """
    n = len(reach)
    return [
        x + pads[i] + pads[n + i] - (y - 1) * s - r
        for i, (x, y, r, s) in enumerate(zip(X, Y, reach, strides, strict=True))
    ]


def padding(op, node):
    """Return the padding before and behind X, int64 (n,) each: constants unless SAME meets sizes known at run time.

    SAME pads for as many windows as X has strides. Below zero, which it is for poolings whose kernel is below
    their stride, it says how many entries are left out.
    """
    n = len(node.attrs["strides"])
    if "pads" in node.attrs:
        pads = np.array(node.attrs["pads"], np.int64)
        return op.const(pads[:n]), op.const(pads[n:])
    strides, X = node.attrs["strides"], spatial_shape(op, node.X)
    count = op.Div(op.Add(X, [stride - 1 for stride in strides]), strides)
    # ONNX Runtime pads poolings for their kernel undilated.
    within = window_reach(op, node) if node.op_type == "Conv" else op.const(node.attrs["kernel_shape"])
    total = op.Sub(op.Add(op.Mul(op.Sub(count, [1]), strides), within), X)
    if node.op_type == "Conv":
        total = op.Max(total, [0])
    upper = node.attrs["auto_pad"] == "SAME_UPPER"
    begin = op.Div(total if upper else op.Add(total, [1]), [2])
    return begin, op.Sub(total, begin)


def counting_type(g):
    """Return the type to count elements in for g: float16 ends at 65504, which a map of 256 x 256 has more of."""
    return ir.DataType.FLOAT if g.dtype in HALVES else g.dtype


def window_reach(op, node):
    """Return `reach` as int64 (n,), also where the kernel's size is known at run time only."""
    if "kernel_shape" in node.attrs:
        return op.const(np.array(reach(node), np.int64))
    return op.Add(op.Mul(op.Sub(op.Shape(node.W, start=2), [1]), dilations(node)), [1])


def pad_spatially(op, X, begin, end, value=0.0):
    """Pad the spatial axes of X by int64 (n,) each."""
    if all(constant(p) is not None and not constant(p).any() for p in (begin, end)):
        return X
    keep = op.const([0, 0])
    return op.Pad(X, concat(op, keep, begin, keep, end), op.scalar(value, like=X))


def cut_spatially(op, X, begin, size):
    """Cut `size` entries, from `begin` on, out of the spatial axes of X; int64 (n,) each."""
    (n,) = dims(begin)
    return op.Slice(X, begin, op.Add(begin, size), list(range(2, n + 2)))


def fit_spatially(op, node, X, begin, size):
    """As `cut_spatially`, for what `node` pads: SAME may let `begin` lie before X, and the end behind it, as zeros."""
    if "pads" in node.attrs:
        return cut_spatially(op, X, begin, size)
    return pad_spatially(op, X, op.Neg(begin), op.Sub(op.Add(begin, size), spatial_shape(op, X)))


def repeat(op, X, times):
    """Repeat each entry of the spatial axes, in place, as often as `times` says for its axis."""
    return op.Resize(
        X,
        scales=op.const(np.array([1, 1, *times], np.float32)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def convolve(op, X, W, *bias, pads=(0, 0, 0, 0), strides=(1, 1), group=1):
    """Emit a convolution over two axes that says all its attributes, as the browser's runtime wants it."""
    geometry = {"pads": list(pads), "strides": list(strides), "dilations": [1, 1], "group": group}
    return op.Conv(X, W, *bias, kernel_shape=list(dims(W)[2:]), **geometry)


def concat(op, *parts):
    """Return int64 vectors one behind the other: a constant if all of them are."""
    known = [constant(p) for p in parts]
    if all(k is not None for k in known):
        return op.const(np.concatenate(known))
    return op.Concat(*parts, axis=0)
