"""Rules for Conv and ConvTranspose.

A convolution is linear in X, so its vjp is its adjoint: ConvTranspose with the same kernel and the
same geometry. Which of several spellings of the adjoint is emitted was measured, layer by layer, on
ONNX Runtime's CPU kernels: at stride 1 a Conv with the kernel flipped is faster, except towards few
channels and for grouped kernels that are not depthwise. With a stride of 2 it is faster phase by phase
(`conv_phases.py`) where ONNX Runtime computes in blocks; elsewhere depthwise kernels with a stride are
faster on small maps with zeros between the entries of g.
"""

import math
from functools import partial

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.blocked import enter_blocks
from onnxsal.autodiff.rules.conv_phases import in_phases, phase_windows, pointwise_with_stride
from onnxsal.autodiff.rules.conv_stem import to_few_channels
from onnxsal.autodiff.rules.interleaved import by_phases
from onnxsal.autodiff.rules.windows import (
    concat,
    cut_spatially,
    pad_spatially,
    padding,
    reach,
    repeat,
    spatial,
    spatial_shape,
    unread,
    window_reach,
)
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims

# Towards fewer channels than this ConvTranspose is the faster adjoint (3x3 to 3 channels at 224: .32 against .79).
FEW_CHANNELS = 8
# Depthwise kernels with a stride, ConvTranspose against zeros put in between: 1.27 and .97 ms at 144 channels of 56x56,
# .46 and .28 at 192 of 28x28, but 3.5 and 4.4 at 96 of 112x112 and, for a batch of 8, 10.7 and 13.4 at 56x56.
SMALL_MAP = 40 * 40


# ----- Conv -----


@vjp("Conv", wrt="X")
def conv_data(op, node, g):
    if _flipped_is_faster(node):
        pads = [r - 1 - p for r, p in zip(reach(node) * 2, node.attrs["pads"], strict=True)]
        adjoint = partial(_flipped_conv, op, node, pads=pads)
        return (by_phases(op, g, adjoint) if _narrows_pixels(node) else None) or adjoint(g)
    made = to_few_channels(op, node, g) or pointwise_with_stride(op, node, g)
    if made is not None:
        return made
    phases = phase_windows(op, node)
    if phases is not None:
        return in_phases(op, node, g, phases)
    pads = _pads_around_zeros(node)
    return _adjoint(op, node, g) if pads is None else _flipped_conv(op, node, _with_zeros(op, node, g), pads)


@vjp("Conv", wrt="W")
def conv_kernel(op, node, g):
    begin, end = padding(op, node)
    return correlate(op, node, pad_spatially(op, node.X, begin, end), g)


@vjp("Conv", wrt="B")
@vjp("ConvTranspose", wrt="B")
def bias(op, node, g):
    return op.ReduceSum(g, [0, *range(2, rank(g))], keepdims=0)


def _flipped_is_faster(node):
    """Decide by geometry, as measured: see the module's docstring."""
    weight, attrs = dims(node.W), node.attrs
    if "kernel_shape" not in attrs or any(s != 1 for s in attrs["strides"]):
        return False
    if any(p >= r for p, r in zip(attrs["pads"], reach(node) * 2, strict=True)):
        return False  # Conv would need negative padding
    return _is_depthwise(node) or (attrs["group"] == 1 and isinstance(weight[1], int) and weight[1] >= FEW_CHANNELS)


def _narrows_pixels(node):
    """Tell whether the adjoint takes pixels one by one, to fewer channels: behind it, interleaving costs less."""
    C_out, C_in = dims(node.W)[:2]
    return all(k == 1 for k in node.attrs["kernel_shape"]) and not any(node.attrs["pads"]) and C_in < C_out


def _is_depthwise(node):
    weight = dims(node.W)
    return weight[1] == 1 and weight[0] == node.attrs["group"]


def _flipped_conv(op, node, g, pads):
    """Correlate g with the kernel turned by half a turn, channels in and out exchanged."""
    attrs, n = node.attrs, len(node.attrs["strides"])
    W = node.W if attrs["group"] > 1 else op.Transpose(node.W, perm=[1, 0, *range(2, n + 2)])
    W = _flip(op, W, [axis + 2 for axis, k in enumerate(attrs["kernel_shape"]) if k > 1])
    return op.Conv(g, W, **_geometry(node) | {"strides": [1] * n}, pads=pads)


def _flip(op, value, axes):
    if not axes:
        return value
    backwards = [-1] * len(axes)
    return op.Slice(value, backwards, [np.iinfo(np.int64).min] * len(axes), axes, backwards)


def _pads_around_zeros(node):
    """Return the pads of a flipped convolution over g with zeros put in between, or None where it is not faster."""
    attrs, n = node.attrs, len(node.attrs["strides"])
    X, Y = spatial(node.X), spatial(node.Y)
    if X is None or Y is None or "kernel_shape" not in attrs or not _is_depthwise(node) or math.prod(X) > SMALL_MAP:
        return None
    begin = [r - 1 - p for r, p in zip(reach(node), attrs["pads"][:n], strict=True)]
    end = [x - y * s for x, y, s in zip(X, Y, attrs["strides"], strict=True)]
    pads = begin + [e + p for e, p in zip(end, attrs["pads"][:n], strict=True)]
    return None if min(pads) < 0 else pads


def _with_zeros(op, node, g):
    """Put stride - 1 zeros behind each entry of g."""
    strides, Y = node.attrs["strides"], spatial(node.Y)
    mask = np.zeros(np.multiply(Y, strides))
    mask[tuple(slice(None, None, s) for s in strides)] = 1
    return op.Mul(repeat(op, g, strides), op.const(mask[None, None], g.dtype))


def _adjoint(op, node, g):
    """Emit ConvTranspose, and cut off what it makes beyond X.

    Where a stride leaves the end of X unread, ConvTranspose has to be told, or the cotangent comes out
    smaller than X; where only the run knows how much, the most is asked for and the rest cut off.
    """
    attrs, n = node.attrs, len(node.attrs["strides"])
    X, Y = spatial(node.X), spatial(node.Y)
    if "pads" not in attrs:
        full = _transposed(op, node, g, [0] * (2 * n), [s - 1 for s in attrs["strides"]])
        return cut_spatially(op, full, padding(op, node)[0], spatial_shape(op, node.X))
    if "kernel_shape" in attrs and X is not None and Y is not None:
        return _transposed(op, node, g, attrs["pads"], unread(X, Y, reach(node), attrs["strides"], attrs["pads"]))
    full = _transposed(op, node, g, attrs["pads"], [s - 1 for s in attrs["strides"]])
    if all(s == 1 for s in attrs["strides"]):
        return full
    return cut_spatially(op, full, op.const([0] * n), spatial_shape(op, node.X))


def _transposed(op, node, g, pads, output_padding):
    made = op.ConvTranspose(g, node.W, **_geometry(node), pads=pads, output_padding=output_padding)
    return enter_blocks(op, made)


def _geometry(node):
    """Return what a convolution shares with its adjoint; a kernel whose size is not known is not described."""
    return {k: node.attrs[k] for k in ("kernel_shape", "strides", "dilations", "group") if k in node.attrs}


# ----- ConvTranspose -----


@vjp("ConvTranspose", wrt="X")
def transposed_data(op, node, g):
    attrs, n = node.attrs, len(node.attrs["strides"])
    if "pads" in attrs:
        return op.Conv(g, node.W, **_geometry(node), pads=attrs["pads"])
    return op.Conv(_uncropped(op, node, g), node.W, **_geometry(node), pads=[0] * (2 * n))


@vjp("ConvTranspose", wrt="W")
def transposed_kernel(op, node, g):
    # Seen from g, the convolution runs the other way: what it reads is g, what arrives from above is X.
    return correlate(op, node, _uncropped(op, node, g), node.X)


def _uncropped(op, node, g):
    """Pad g to the extent that the windows cover, before ConvTranspose cut it down to Y."""
    n = len(node.attrs["strides"])
    if "pads" in node.attrs:
        begin, end = padding(op, node)
        return pad_spatially(op, g, begin, end)
    last = op.Mul(op.Sub(spatial_shape(op, node.X), [1]), node.attrs["strides"])
    covered = op.Add(op.Add(last, window_reach(op, node)), node.attrs.get("output_padding", [0] * n))
    total = op.Max(op.Sub(covered, spatial_shape(op, node.Y)), [0])
    half = op.Div(total, [2])
    rest = op.Sub(total, half)
    return pad_spatially(op, g, *((half, rest) if node.attrs["auto_pad"] == "SAME_UPPER" else (rest, half)))


# ----- Kernels -----


def correlate(op, node, X, g):
    """Return the cotangent of W: the correlation of a convolution's padded input with its output's cotangent.

    That is a convolution again, with the batch summed over in the place of the channels, and strides
    and dilations exchanged. Groups stay groups.
    """
    attrs, n, group = node.attrs, len(node.attrs["strides"]), node.attrs["group"]
    swap = [1, 0, *range(2, n + 2)]
    sizes = spatial(g)
    made = op.Conv(
        _channels_first(op, X, group, n),
        op.Transpose(g, perm=swap),
        kernel_shape=sizes,
        strides=attrs["dilations"],
        dilations=attrs["strides"],
        group=group,
        pads=[0] * (2 * n),
    )
    # Entries of X that no window reads make the correlation longer than the kernel.
    made = cut_spatially(op, made, op.const([0] * n), spatial_shape(op, node.W))
    return op.Transpose(made, perm=swap)


def _channels_first(op, X, group, n):
    """Return (N, group * C, ...) as (C, group * N, ...)."""
    if group == 1:
        return op.Transpose(X, perm=[1, 0, *range(2, n + 2)])
    size = spatial_shape(op, X)
    X = op.Reshape(X, concat(op, op.const([0, group, -1]), size))
    X = op.Transpose(X, perm=[2, 1, 0, *range(3, n + 3)])
    return op.Reshape(X, concat(op, op.const([0, -1]), size))
