"""Rules for Softmax and LogSoftmax, from their outputs."""

from onnxsal.autodiff.registry import vjp


@vjp("Softmax", wrt="input")
def softmax(op, node, g):
    Y, axis = _defined(op, node), node.attrs["axis"]
    return op.Mul(Y, op.Sub(g, op.ReduceSum(op.Mul(g, Y), axes=[axis], keepdims=1)))


def _defined(op, node):
    """Return the output, with 0 for what is no number where the model expects that.

    Attention that a mask hides altogether is 0/0, and models put something else there by Where. Its
    cotangent is 0 then, but 0 times NaN is not.
    """
    Y = node.output
    return op.Where(op.IsNaN(Y), op.scalar(0, like=Y), Y) if "Where" in node.readers("output") else Y


@vjp("LogSoftmax", wrt="input")
def log_softmax(op, node, g):
    total = op.ReduceSum(g, axes=[node.attrs["axis"]], keepdims=1)
    return op.Sub(g, op.Mul(op.Exp(node.output), total))
