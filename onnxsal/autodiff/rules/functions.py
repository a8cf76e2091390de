"""Rules for functions of one number, from their outputs where these serve."""

import math

from onnxsal.autodiff.registry import vjp


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
