"""Masks of 0 and 1 that rules multiply cotangents with.

HardSigmoid with a steep slope is the one spelling that leaves ONNX Runtime's blocked layout alone;
Greater and Cast force a reorder around each (ResNet-50: 94 reorders against 41). What has no
float32 kernel to gain from is written with comparisons, which are exact by construction.
"""

import math

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.rules.blocked import blocked_channels
from onnxsal.autodiff.rules.windows import convolve
from onnxsal.graph.builder import Op

STEEP = 2.0**100
STEEPEST = 2.0**127
TINY = 2.0**-100

# Beyond these a steep slope times the bound overflows, or a slope of STEEP does not lift the next float above the
# bound to 1.
LARGEST_BOUND = 2.0**27
SMALLEST_BOUND = 2.0**-76


def positive(op: Op, y: ir.Value) -> ir.Value:
    """Return 1 where y > 0, else 0, in the type of y."""
    return above(op, y, 0.0)


def above(op: Op, y: ir.Value, bound: float) -> ir.Value:
    """Return 1 where y > bound, else 0, in the type of y."""
    if _fits_a_slope(y, bound):
        return op.HardSigmoid(y, alpha=STEEP, beta=-STEEP * bound)
    return op.cast(op.Greater(y, bound), y.dtype)


def below(op: Op, y: ir.Value, bound: float) -> ir.Value:
    """Return 1 where y < bound, else 0, in the type of y."""
    if _fits_a_slope(y, bound):
        return op.HardSigmoid(y, alpha=-STEEP, beta=STEEP * bound)
    return op.cast(op.Less(y, bound), y.dtype)


def between(op: Op, y: ir.Value, low: float, high: float) -> ir.Value:
    """Return 1 where low < y < high, else 0, in the type of y, which has been clipped to [low, high]."""
    if low == 0 and high > 0 and _fits_a_slope(y, high) and blocked_channels(op, y):
        return _between_in_blocks(op, y, high)
    if low == 0:
        # One buffer less than the product of two masks.
        return positive(op, op.Mul(y, below(op, y, high)))
    return op.Mul(above(op, y, low), below(op, y, high))


def _between_in_blocks(op: Op, y: ir.Value, high: float) -> ir.Value:
    """Return 1 where 0 < y < high, else 0: y less TINY has its sign turned and is enlarged where it is negative.

    So it falls from `high` at y = 0 to 0 at y = TINY, and rises to `high` again, exactly: all numbers are powers of two
    but y and `high` (only a y below 2^-125 passes for 0). In blocks ONNX Runtime computes a convolution, that which
    picks a phase of y too, with LeakyRelu in its wake in one pass over memory, where masks of both sides and their
    product are three passes (MobileNetV2's gradient: 3.94 and 4.20 times the forward pass).
    """
    valley = op.LeakyRelu(_less_tiny(op, y), alpha=-high / TINY)
    return op.HardSigmoid(valley, alpha=-STEEP, beta=STEEP * high)


def _less_tiny(op: Op, y: ir.Value) -> ir.Value:
    """Return y - TINY in what ONNX Runtime makes a convolution with LeakyRelu in its wake, or folds into one before."""
    zeros = np.zeros(blocked_channels(op, y), np.float32)
    producer = y.producer()
    if producer is None or producer.op_type != "Conv":
        less: ir.Value = convolve(op, y, zeros[:, None, None, None] + 1, zeros - TINY, group=len(zeros))
        return less
    # Variance and epsilon add up to 1; cuDNN wants the latter to be 1e-5 at least.
    epsilon = 2.0**-16
    return op.BatchNormalization(y, zeros + 1, zeros - TINY, zeros, zeros + (1 - epsilon), epsilon=epsilon)


def ramp(op: Op, y: ir.Value, slope: float, offset: float) -> ir.Value:
    """Return slope * y + offset, clipped to [0, 1]."""
    if y.dtype == ir.DataType.FLOAT:
        return op.HardSigmoid(y, alpha=slope, beta=offset)
    return op.Clip(op.Add(op.Mul(y, slope), offset), 0.0, 1.0)


def _fits_a_slope(y: ir.Value, bound: float) -> bool:
    if y.dtype != ir.DataType.FLOAT or not math.isfinite(bound):
        return False
    return bound == 0 or SMALLEST_BOUND <= abs(bound) <= LARGEST_BOUND
