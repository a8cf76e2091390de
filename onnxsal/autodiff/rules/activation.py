"""Rules for activations. Masks are made from the output, so that Conv and its activation still fuse.

At a kink the derivative is PyTorch's: 0 for Relu, Clip and HardSigmoid, the slope for LeakyRelu and
PRelu, 0 and 1 at the two ends of HardSwish.
"""

import math
from functools import partial

import numpy as np

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.interleaved import by_phases
from onnxsal.autodiff.rules.masks import above, below, between, positive, ramp

# ----- Piecewise linear -----


@vjp("Relu", wrt="X")
def relu(op, node, g):
    # Y > 0 exactly where X > 0, and Y is usually alive already.
    mask = partial(_pass_positive, op)
    return by_phases(op, g, mask, node.Y, picked=True) or mask(g, node.Y)


def _pass_positive(op, g, y):
    return op.Mul(g, positive(op, y))


@vjp("LeakyRelu", wrt="X")
def leaky_relu(op, node, g):
    alpha = node.attrs["alpha"]
    if 0 <= alpha <= 1:
        # alpha + (1 - alpha) * mask, in the spelling that keeps the blocked layout.
        return op.Mul(g, ramp(op, positive(op, node.Y), 1 - alpha, alpha))
    return op.Where(op.Greater(node.X, 0.0), g, op.Mul(g, alpha))


@vjp("PRelu", wrt="X")
def prelu(op, node, g):
    return op.Where(op.Greater(node.X, 0.0), g, op.Mul(g, node.slope))


@vjp("PRelu", wrt="slope")
def prelu_slope(op, node, g):
    return op.Mul(g, op.Min(node.X, 0.0))


@vjp("ThresholdedRelu", wrt="X")
def thresholded_relu(op, node, g):
    alpha = node.attrs["alpha"]
    return op.Mul(g, positive(op, node.Y) if alpha >= 0 else above(op, node.X, alpha))


@vjp("Shrink", wrt="input")
def shrink(op, node, g):
    return op.Mul(g, above(op, op.Abs(node.input), node.attrs["lambd"]))


@vjp("HardSigmoid", wrt="X")
def hard_sigmoid(op, node, g):
    return op.Mul(op.Mul(g, node.attrs["alpha"]), between(op, node.Y, 0.0, 1.0))


@vjp("HardSwish", wrt="X")
def hard_swish(op, node, g):
    """Return g * (x / 3 + 1/2) for x in (-3, 3), which jumps to 0 below and to g above."""
    X = node.X
    slope = op.Mul(op.Add(op.Mul(X, 1 / 3), 0.5), above(op, X, -3.0))
    return op.Mul(g, op.Where(op.Less(X, 3.0), slope, 1.0))


# ----- Bounds -----


@vjp("Clip", wrt="input")
def clip_input(op, node, g):
    """Pass g strictly between the bounds, and nothing at them.

    So have it relu6 and hardtanh in PyTorch; clamp had 1 at its bounds up to 2.13, and has 0 since 2.15.
    """
    Y, low, high = node.output, node.const("min"), node.const("max")
    for formal, bound, inside in (("min", low, op.Greater), ("max", high, op.Less)):
        if bound is None and node.has(formal):
            g = op.Where(inside(Y, getattr(node, formal)), g, 0.0)
    low, high = (None if b is None or _is_no_bound(b) else float(b.item()) for b in (low, high))
    if low is not None and high is not None:
        mask = partial(_pass_between, op, low=low, high=high)
        return by_phases(op, g, mask, Y) or mask(g, Y)
    if low is not None:
        return op.Mul(g, above(op, Y, low))
    return g if high is None else op.Mul(g, below(op, Y, high))


def _pass_between(op, g, y, low, high):
    return op.Mul(g, between(op, y, low, high))


def _is_no_bound(bound):
    """Tell whether no finite number lies beyond; not by finfo, which does not know bfloat16."""
    infinity, zero = (np.array(v, bound.dtype) for v in (np.inf, 0))
    return bool((abs(bound) >= np.nextafter(infinity, zero)).all())


@vjp("Clip", wrt="min")
def clip_min(op, node, g):
    raised = op.Less(node.input, node.min)
    if node.has("max"):  # if the bounds are the wrong way round, max wins
        raised = op.And(raised, op.Less(node.min, node.max))
    return op.Where(raised, g, 0.0)


@vjp("Clip", wrt="max")
def clip_max(op, node, g):
    lowered = op.Greater(node.input, node.max)
    if node.has("min"):
        lowered = op.Or(lowered, op.Less(node.max, node.min))
    return op.Where(lowered, g, 0.0)


# ----- Exponential -----


@vjp("Sigmoid", wrt="X")
def sigmoid(op, node, g):
    return op.Mul(g, op.Mul(node.Y, _one_minus(op, node.Y)))


def _one_minus(op, y):
    """Return 1 - y, for y in [0, 1]."""
    return ramp(op, y, -1.0, 1.0)


@vjp("Softplus", wrt="X")
def softplus(op, node, g):
    return op.Mul(g, op.Sigmoid(node.X))


@vjp("Softsign", wrt="input")
def softsign(op, node, g):
    size = op.Add(op.Abs(node.input), 1.0)
    return op.Div(g, op.Mul(size, size))


@vjp("Elu", wrt="X")
def elu(op, node, g):
    alpha = node.attrs["alpha"]
    if alpha == 1:
        return op.Mul(g, ramp(op, node.Y, 1.0, 1.0))  # Y + 1 = exp(X) up to X = 0, then 1
    slope = op.Add(node.Y, alpha)
    return op.Where(op.Greater(node.X, 0.0), g, op.Mul(g, slope))


@vjp("Selu", wrt="X")
def selu(op, node, g):
    alpha, gamma = node.attrs["alpha"], node.attrs["gamma"]
    slope = op.Where(op.Greater(node.X, 0.0), gamma, op.Add(node.Y, alpha * gamma))
    return op.Mul(g, slope)


@vjp("Celu", wrt="X")
def celu(op, node, g):
    alpha = node.attrs["alpha"]
    if alpha > 0:
        return op.Mul(g, ramp(op, node.Y, 1 / alpha, 1.0))  # Y / alpha + 1 = exp(X / alpha) up to X = 0, then 1
    return op.Mul(g, op.Max(op.Add(op.Div(node.Y, alpha), 1.0), 1.0))


@vjp("Swish", wrt="X")
def swish(op, node, g):
    alpha = node.attrs["alpha"]
    s = op.Sigmoid(op.Mul(node.X, alpha))
    return op.Mul(g, op.Add(s, op.Mul(op.Mul(node.Y, alpha), _one_minus(op, s))))


@vjp("Mish", wrt="X")
def mish(op, node, g):
    X = node.X
    t = op.Tanh(op.Softplus(X))
    fall = op.Sub(op.scalar(1, like=t), op.Mul(t, t))
    return op.Mul(g, op.Add(t, op.Mul(op.Mul(X, op.Sigmoid(X)), fall)))


@vjp("Gelu", wrt="X")
def gelu(op, node, g):
    slope = _gelu_tanh_slope if node.attrs["approximate"] == "tanh" else _gelu_slope
    return op.Mul(g, slope(op, node.X))


def _gelu_slope(op, x):
    """Return Phi(x) + x * phi(x), with z = x / sqrt(2)."""
    z = op.Mul(x, math.sqrt(0.5))
    bell = op.Exp(op.Sub(-math.log(math.pi) / 2, op.Mul(z, z)))  # exp(-z^2) / sqrt(pi)
    return op.Add(ramp(op, op.Erf(z), 0.5, 0.5), op.Mul(z, bell))


def _gelu_tanh_slope(op, x):
    """Return (1 + t + x * (1 - t^2) * u') / 2 with t = tanh(u), u = sqrt(2 / pi) * (x + 0.044715 * x^3)."""
    root, cubic, square = math.sqrt(2 / math.pi), 0.044715, op.Mul(x, x)
    t = op.Tanh(op.Mul(x, op.Add(op.Mul(square, root * cubic), root)))
    inner = op.Mul(x, op.Add(op.Mul(square, 3 * root * cubic), root))
    fall = op.Sub(op.scalar(1, like=t), op.Mul(t, t))
    return op.Mul(op.Add(op.Add(t, 1.0), op.Mul(fall, inner)), 0.5)
