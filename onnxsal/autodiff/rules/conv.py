"""Rules for Conv and ConvTranspose.

A convolution is linear in X, so its vjp is its adjoint: ConvTranspose with the same kernel and the
same geometry. Which of several spellings of the adjoint is emitted was measured, layer by layer, on
ONNX Runtime's CPU kernels: at stride 1 a Conv with the kernel flipped is faster, except towards few
channels and for grouped kernels that are not depthwise.
"""

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.graph.types import dims

# Towards fewer channels than this ConvTranspose is the faster adjoint (3x3 to 3 channels at 224: .32 against .79).
FEW_CHANNELS = 8


@vjp("Conv", wrt="X")
def conv_data(op, node, g):
    if _flipped_is_faster(node):
        return _flipped_conv(op, node, g)
    return _adjoint(op, node, g)


def _flipped_is_faster(node):
    """Decide by geometry, as measured: see the module's docstring."""
    weight = dims(node.W)
    attrs = node.attrs
    if weight is None or any(s != 1 for s in attrs["strides"]) or "pads" not in attrs:
        return False
    reach = [e * (k - 1) for e, k in zip(attrs["dilations"], attrs["kernel_shape"], strict=True)]
    pads, n = attrs["pads"], len(reach)
    if any(p > r for p, r in zip(pads, reach * 2, strict=True)):
        return False  # Conv would need negative padding
    group, per_group = attrs["group"], weight[1]
    depthwise = per_group == 1 and group == weight[0]
    assert n > 0
    return depthwise or (group == 1 and isinstance(per_group, int) and per_group >= FEW_CHANNELS)


def _flipped_conv(op, node, g):
    """Correlate g with the kernel turned by half a turn, channels in and out exchanged."""
    attrs = node.attrs
    kernel, n = attrs["kernel_shape"], len(attrs["kernel_shape"])
    W = node.W if attrs["group"] > 1 else op.Transpose(node.W, perm=[1, 0, *range(2, n + 2)])
    W = _flip(op, W, [axis + 2 for axis, k in enumerate(kernel) if k > 1])
    reach = [e * (k - 1) for e, k in zip(attrs["dilations"], kernel, strict=True)]
    pads = [r - p for r, p in zip(reach * 2, attrs["pads"], strict=True)]
    return op.Conv(
        g, W, kernel_shape=kernel, strides=[1] * n, dilations=attrs["dilations"], group=attrs["group"], pads=pads
    )


def _flip(op, value, axes):
    if not axes:
        return value
    ones = [1] * len(axes)
    last = np.iinfo(np.int64).min
    return op.Slice(value, [-1] * len(axes), [last] * len(axes), axes, [-o for o in ones])


def _adjoint(op, node, g):
    """Emit ConvTranspose, and cut what the padding added.

    The whole extent that the windows reach is computed; X lies within it, `pads` from its begin.
    Where windows leave the end of X unread (a stride can), zeros are added behind.
    """
    attrs = node.attrs
    geometry = {k: attrs[k] for k in ("kernel_shape", "strides", "dilations", "group")}
    n = len(attrs["strides"])
    X, Y = dims(node.X), dims(node.Y)
    if "pads" in attrs and X and Y and all(isinstance(d, int) for d in [*X[2:], *Y[2:]]):
        pads = attrs["pads"]
        extra = [
            x - ((y - 1) * s + e * (k - 1) + 1 - b - t)
            for x, y, s, e, k, b, t in zip(
                X[2:],
                Y[2:],
                attrs["strides"],
                attrs["dilations"],
                attrs["kernel_shape"],
                pads[:n],
                pads[n:],
                strict=True,
            )
        ]
        # ONNX Runtime wants output_padding below the stride (or the dilation); a Conv's windows leave no more than that.
        return op.ConvTranspose(g, node.W, **geometry, pads=pads, output_padding=extra if any(extra) else [0] * n)
    return _cut(
        op,
        node,
        op.ConvTranspose(g, node.W, **geometry, pads=[0] * (2 * n), output_padding=[s - 1 for s in attrs["strides"]]),
    )


def _cut(op, node, full):
    """Cut X's extent out of `full`, which begins where the first window begins, sizes known at run time."""
    n = len(node.attrs["strides"])
    begin = _begin(op, node)
    size = op.Shape(node.X, start=2)
    axes = list(range(2, n + 2))
    return op.Slice(full, begin, op.Add(begin, size), axes)


def _begin(op, node):
    """Return the padding before the first element of X, int64 (n,)."""
    attrs = node.attrs
    n = len(attrs["strides"])
    if "pads" in attrs:
        return op.const(np.array(attrs["pads"][:n], np.int64))
    stride = op.const(np.array(attrs["strides"], np.int64))
    reach = op.const(
        np.array([e * (k - 1) + 1 for e, k in zip(attrs["dilations"], attrs["kernel_shape"], strict=True)], np.int64)
    )
    size, out = op.Shape(node.X, start=2), op.Shape(node.Y, start=2)
    total = op.Sub(op.Add(op.Mul(op.Sub(out, [1]), stride), reach), size)
    total = op.Max(total, [0])
    half = op.Div(total, [2])
    return half if attrs["auto_pad"] == "SAME_UPPER" else op.Sub(total, half)
