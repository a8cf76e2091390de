"""Rules for arithmetic, one element at a time."""

from onnxsal.autodiff.registry import vjp


@vjp("Add", wrt="A")
@vjp("Add", wrt="B")
def add(op, node, g):
    return g


@vjp("Sub", wrt="A")
def sub_a(op, node, g):
    return g


@vjp("Sub", wrt="B")
def sub_b(op, node, g):
    return op.Neg(g)


@vjp("Mul", wrt="A")
def mul_a(op, node, g):
    return op.Mul(g, node.B)


@vjp("Mul", wrt="B")
def mul_b(op, node, g):
    return op.Mul(g, node.A)
