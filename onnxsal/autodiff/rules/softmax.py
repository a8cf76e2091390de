"""Rules for Softmax and LogSoftmax, from their outputs."""

from onnxsal.autodiff.registry import vjp


@vjp("Softmax", wrt="input")
def softmax(op, node, g):
    Y, axis = node.output, node.attrs["axis"]
    return op.Mul(Y, op.Sub(g, op.ReduceSum(op.Mul(g, Y), axes=[axis], keepdims=1)))


@vjp("LogSoftmax", wrt="input")
def log_softmax(op, node, g):
    total = op.ReduceSum(g, axes=[node.attrs["axis"]], keepdims=1)
    return op.Sub(g, op.Mul(op.Exp(node.output), total))
