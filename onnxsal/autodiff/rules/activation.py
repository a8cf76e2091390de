"""Rules for activations. Masks are made from the output, so that Conv and Relu still fuse."""

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.masks import positive


@vjp("Relu", wrt="X")
def relu(op, node, g):
    # Y > 0 exactly where X > 0, and Y is usually alive already.
    return op.Mul(g, positive(op, node.Y))
