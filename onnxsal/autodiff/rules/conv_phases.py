"""The adjoint of a convolution with strides, phase by phase.

An entry of X is read by the taps that lie a multiple of the stride apart, which ones depends on its phase: its number
modulo the stride. So the cotangent of each phase is a convolution of g at stride 1 with some of the kernel's taps, and
the phases are interleaved. ONNX Runtime computes these convolutions in blocks and on all threads, other than
ConvTranspose, which scatters the product of a matrix on one thread.
"""

from dataclasses import dataclass

import numpy as np

from onnxsal.autodiff.rules.blocked import blocked_channels
from onnxsal.autodiff.rules.interleaved import interleave
from onnxsal.autodiff.rules.windows import dilations, spatial
from onnxsal.graph.types import dims


@dataclass(frozen=True)
class Phase:
    """What the entries of one phase get along one axis.

    Attributes:
        taps: Of the kernel, in the order in which they meet g.
        begin: Padding of g before.
        end: Padding of g behind.
    """

    taps: tuple[int, ...]
    begin: int
    end: int


def phase_windows(node):
    """Return the phases of each axis, or None where the adjoint is not to be computed so."""
    X, Y, attrs = spatial(node.X), spatial(node.Y), node.attrs
    if X is None or Y is None or "kernel_shape" not in attrs or "pads" not in attrs or not _is_apt(node):
        return None
    axes = []
    for axis, (stride, size) in enumerate(zip(attrs["strides"], X, strict=True)):
        phases = [_phase(node, axis, r, Y[axis], size // stride) for r in range(stride)]
        if size % stride or any(p is None for p in phases):
            return None
        axes.append(phases)
    return axes


def _is_apt(node):
    """Tell whether it pays: a stride of 2 on both axes, windows that overlap, and channels that come in blocks.

    Milliseconds by ConvTranspose and in phases, interleaved, on one thread: 1.81 and 1.74 for a depthwise 3x3 to 96
    channels of 112x112, .49 and .36 to 144 of 56x56; on two threads the former stays what it is. The three dense 3x3
    of ResNet-50: 6.3 and 4.7, and its gradient 2.51 and 2.45 times the forward pass.
    """
    W, attrs = dims(node.W), node.attrs
    if attrs["strides"] != [2, 2] or max(attrs["kernel_shape"]) <= 2 or any(d != 1 for d in dilations(node)):
        return False
    if not blocked_channels(node.X) or not blocked_channels(node.Y):
        return False
    return attrs["group"] == 1 or (W[1] == 1 and W[0] == attrs["group"])


def _phase(node, axis, phase, count, length):
    """Return what the entries number q * stride + phase, q < length, get of g's `count` entries; None for nothing."""
    kernel, stride = node.attrs["kernel_shape"][axis], node.attrs["strides"][axis]
    read = phase + node.attrs["pads"][axis]
    taps = [t for t in range(kernel) if (read - t) % stride == 0]
    if not taps:
        return None
    # Entry q gets, by tap t, entry q + (read - t) / stride of g.
    nearest, farthest = (read - taps[-1]) // stride, (read - taps[0]) // stride
    begin, end = -nearest, length + farthest - count
    return Phase(tuple(reversed(taps)), begin, end) if min(begin, end) >= 0 else None


def in_phases(op, node, g, axes):
    """Return the cotangent of X."""
    rows, columns = axes
    return interleave(op, [[_convolved(op, node, g, (row, column)) for column in columns] for row in rows])


def _convolved(op, node, g, phases):
    attrs = node.attrs
    W = node.W if attrs["group"] > 1 else op.Transpose(node.W, perm=[1, 0, 2, 3])
    for axis, phase in enumerate(phases):
        W = op.Gather(W, op.const(np.array(phase.taps)), axis=axis + 2)
    pads = [p.begin for p in phases] + [p.end for p in phases]
    sizes = [len(p.taps) for p in phases]
    return op.Conv(g, W, kernel_shape=sizes, strides=[1, 1], dilations=[1, 1], group=attrs["group"], pads=pads)
