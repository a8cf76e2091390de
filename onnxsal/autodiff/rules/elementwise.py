"""Rules for arithmetic, one element at a time."""

import math

import numpy as np

from onnxsal.autodiff.registry import declare_zero, vjp
from onnxsal.autodiff.rules.masks import above, below, between

# ----- Two operands -----


@vjp("Add", wrt="A")
@vjp("Add", wrt="B")
@vjp("Sub", wrt="A")
@vjp("Mod", wrt="A")
@vjp("Identity", wrt="input")
def passed_on(op, node, g):
    return g


@vjp("Sub", wrt="B")
@vjp("Neg", wrt="X")
def negated(op, node, g):
    return op.Neg(g)


@vjp("Mul", wrt="A")
def mul_a(op, node, g):
    return op.Mul(g, node.B)


@vjp("Mul", wrt="B")
def mul_b(op, node, g):
    return op.Mul(g, node.A)


@vjp("Div", wrt="A")
def div_a(op, node, g):
    return op.Div(g, node.B)


@vjp("Div", wrt="B")
def div_b(op, node, g):
    return op.Neg(op.Div(op.Mul(g, node.C), node.B))


@vjp("Mod", wrt="B")
def mod_b(op, node, g):
    # C = A - trunc(A / B) * B. On floats only fmod is defined, so the quotient is truncated.
    quotient = op.Round(op.Div(op.Sub(node.A, node.C), node.B))
    return op.Neg(op.Mul(g, quotient))


@vjp("Pow", wrt="X")
def pow_base(op, node, g):
    X, exponent = node.X, node.const("Y")
    if exponent is not None and exponent.size == 1:
        return _pow_constant(op, node, g, float(exponent.item()))
    Y = op.cast(node.Y, X.dtype)
    slope = op.Mul(Y, op.Pow(X, op.Sub(Y, 1.0)))
    # x^0 is 1 everywhere, also at 0, where the formula says 0 * inf.
    return op.Mul(g, op.Where(op.Equal(Y, 0.0), 0.0, slope))


def _pow_constant(op, node, g, p):
    X = node.X
    if p == 0:
        return op.Mul(g, 0.0)
    if p == 1:
        return g
    if p == 0.5:
        return op.Div(op.Mul(g, 0.5), node.Z)
    if p == -1:
        return op.Neg(op.Mul(g, op.Mul(node.Z, node.Z)))
    lowered = {2.0: X, 3.0: op.Mul(X, X)}.get(p) or op.Pow(X, op.scalar(p - 1, like=X))
    return op.Mul(g, op.Mul(lowered, p))


@vjp("Pow", wrt="Y")
def pow_exponent(op, node, g):
    X, Y = node.X, node.Y
    # 0^y is 0 for every y > 0, where the formula says 0 * log(0); at y = 0 as PyTorch has it.
    flat = op.And(op.Equal(X, 0.0), op.Not(op.Less(Y, 0.0)))
    slope = op.Where(flat, 0.0, op.Mul(node.Z, op.Log(X)))
    return op.cast(op.Mul(g, slope), Y.dtype)


# ----- Many operands -----


@vjp("Sum", wrt="data_0")
def sum_(op, node, g):
    return [g for _ in node.inputs]


@vjp("Mean", wrt="data_0")
def mean(op, node, g):
    share = op.Div(g, float(len(node.inputs)))
    return [share for _ in node.inputs]


@vjp("Max", wrt="data_0")
def max_(op, node, g):
    return _extremum(op, node, g, node.max)


@vjp("Min", wrt="data_0")
def min_(op, node, g):
    return _extremum(op, node, g, node.min)


def _extremum(op, node, g, Y):
    """Give g to the operand that won; operands that tie share it evenly, as torch.maximum has it."""
    if len(node.inputs) == 1:
        return [g]
    masks = [op.cast(op.Equal(x, Y), g.dtype) for x in node.inputs]
    share = op.Div(g, op.Sum(*masks))
    return [op.Mul(share, mask) for mask in masks]


@vjp("Where", wrt="X")
def where_x(op, node, g):
    return op.Where(node.condition, g, 0.0)


@vjp("Where", wrt="Y")
def where_y(op, node, g):
    return op.Where(node.condition, 0.0, g)


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
        return op.Mul(g, between(op, Y, low, high))
    if low is not None:
        return op.Mul(g, above(op, Y, low))
    return g if high is None else op.Mul(g, below(op, Y, high))


def _is_no_bound(bound):
    """Tell whether no finite number lies beyond."""
    return abs(bound.item()) >= np.finfo(bound.dtype).max


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


# ----- Types and regularisation -----


@vjp("Cast", wrt="input")
@vjp("CastLike", wrt="input")
def cast(op, node, g):
    return op.cast(g, node.input.dtype)


declare_zero("CastLike", "target_type")


@vjp("Dropout", wrt="data")
def dropout(op, node, g):
    """Pass g on; where the model asks for training mode, what survived, scaled up as in the forward pass."""
    training = node.const("training_mode")
    if not node.has("training_mode") or (training is not None and not training.item()):
        return g
    ratio = 0.5 if node.ratio is None else op.cast(node.ratio, g.dtype)
    kept = node.mask if node.has("mask") else op.Not(op.Equal(node.output, 0.0))
    trained = op.Where(kept, op.Div(g, op.Sub(op.scalar(1, like=g), ratio)), 0.0)
    return op.Where(node.training_mode, trained, g)


declare_zero("Dropout", "ratio")

# ----- Functions of one number -----


@vjp("Abs", wrt="X")
def abs_(op, node, g):
    return op.Mul(g, op.Sign(node.X))


@vjp("Reciprocal", wrt="X")
def reciprocal(op, node, g):
    return op.Neg(op.Mul(g, op.Mul(node.Y, node.Y)))


@vjp("Sqrt", wrt="X")
def sqrt(op, node, g):
    return op.Div(op.Mul(g, 0.5), node.Y)


@vjp("Exp", wrt="input")
def exp(op, node, g):
    return op.Mul(g, node.output)


@vjp("Log", wrt="input")
def log(op, node, g):
    return op.Div(g, node.input)


@vjp("Erf", wrt="input")
def erf(op, node, g):
    # exp(log c - x^2) = c * exp(-x^2)
    bell = op.Exp(op.Sub(math.log(2 / math.sqrt(math.pi)), op.Mul(node.input, node.input)))
    return op.Mul(g, bell)


@vjp("Sin", wrt="input")
def sin(op, node, g):
    return op.Mul(g, op.Cos(node.input))


@vjp("Cos", wrt="input")
def cos(op, node, g):
    return op.Neg(op.Mul(g, op.Sin(node.input)))


@vjp("Tan", wrt="input")
def tan(op, node, g):
    return op.Mul(g, op.Add(op.Mul(node.output, node.output), 1.0))


@vjp("Asin", wrt="input")
def asin(op, node, g):
    return op.Div(g, op.Sqrt(_one_minus_square(op, node.input)))


@vjp("Acos", wrt="input")
def acos(op, node, g):
    return op.Neg(asin(op, node, g))


@vjp("Atan", wrt="input")
def atan(op, node, g):
    return op.Div(g, op.Add(op.Mul(node.input, node.input), 1.0))


@vjp("Sinh", wrt="input")
def sinh(op, node, g):
    return op.Mul(g, op.Cosh(node.input))


@vjp("Cosh", wrt="input")
def cosh(op, node, g):
    return op.Mul(g, op.Sinh(node.input))


@vjp("Tanh", wrt="input")
def tanh(op, node, g):
    return op.Mul(g, _one_minus_square(op, node.output))


@vjp("Asinh", wrt="input")
def asinh(op, node, g):
    return op.Div(g, op.Sqrt(op.Add(op.Mul(node.input, node.input), 1.0)))


@vjp("Acosh", wrt="input")
def acosh(op, node, g):
    # In two factors: x * x - 1 loses all digits near 1.
    X = node.input
    return op.Div(g, op.Sqrt(op.Mul(op.Sub(X, 1.0), op.Add(X, 1.0))))


@vjp("Atanh", wrt="input")
def atanh(op, node, g):
    return op.Div(g, _one_minus_square(op, node.input))


def _one_minus_square(op, x):
    one = op.scalar(1, like=x)
    # In two factors: 1 - x * x loses digits near 1.
    return op.Mul(op.Sub(one, x), op.Add(x, one))
