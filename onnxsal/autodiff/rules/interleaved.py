"""Cotangents put together from phases: entries whose row and column are alike modulo 2.

The adjoint of a convolution with a stride makes one phase at a time. What takes entries one by one may go on phase by
phase, and the interleaving waits until channels are few: in MobileNetV2 a mask and a 1x1 convolution turn 96
channels into 16 first (a batch of 8: 256 and 221 ms on one thread; a single image: no matter). What is interleaved
too early is written nevertheless, and pruned as nobody reads it.
"""

import numpy as np

from onnxsal.autodiff.rules.blocked import blocked_channels, enter_blocks
from onnxsal.autodiff.rules.windows import convolve
from onnxsal.graph.types import dims

# Below as many entries a channel, interleaving costs less than going on in four parts.
LARGE_MAP = 50 * 50


class Apart:
    """Values in phases, by row and column.

    Attributes:
        phases: Of the values that `interleave` made.
        picked: Of other values, as far as they were picked.
    """

    def __init__(self, op):
        """Know none."""
        self.phases = {}
        self.picked = {}


def interleave(op, phases):
    """Return (N, C, 2 h, 2 w), whose phases are given by row and column, (N, C, h, w) each; remember large ones.

    With the channels last this copies whole pixels, and ONNX Runtime turns them as it leaves and enters blocks.
    """
    channels, height, width = dims(phases[0][0])[1:]
    lines = []
    for row in phases:
        pixels = op.Concat(*(op.Transpose(phase, perm=[0, 2, 3, 1]) for phase in row), axis=3)
        lines.append(op.Reshape(pixels, [0, height, len(row) * width * channels]))
    made = op.Reshape(op.Concat(*lines, axis=2), [0, len(phases) * height, len(phases[0]) * width, channels])
    made = enter_blocks(op, op.Transpose(made, perm=[0, 3, 1, 2]))
    if len(phases) * height * len(phases[0]) * width >= LARGE_MAP:
        op.once(Apart).phases[made] = phases
    return made


def phases_of(op, value):
    """Return the phases that `value` was interleaved from, by row and column; None if it was not."""
    return op.once(Apart).phases.get(value)


def by_phases(op, g, make, *primals, picked=False):
    """Return `make(g, *primals)` phase by phase, if g was interleaved, else None.

    Args:
        op: The builder.
        g: A cotangent.
        make: What takes entries one by one.
        primals: Of the size of g; their phases are picked.
        picked: Only if another rule has picked these already.
    """
    apart = op.once(Apart)
    phases = apart.phases.get(g)
    if phases is None or not all(blocked_channels(op, p) for p in primals):
        return None
    if picked and not all(p in apart.picked for p in primals):
        return None
    return interleave(
        op,
        [
            [make(part, *(pick(op, p, r, c) for p in primals)) for c, part in enumerate(row)]
            for r, row in enumerate(phases)
        ],
    )


def pick(op, value, row, column):
    """Return the entries of a finite value (N, C, 2 h, 2 w) at the places of a phase, (N, C, h, w).

    By a convolution with a single one, which ONNX Runtime computes in blocks; Slice it does not.
    """
    known = op.once(Apart).picked.setdefault(value, {})
    if (row, column) not in known:
        one = np.zeros((dims(value)[1], 1, row + 1, column + 1))
        one[:, :, row, column] = 1
        weight = op.const(one, value.dtype)
        known[row, column] = convolve(op, value, weight, strides=(2, 2), group=len(one))
    return known[row, column]
