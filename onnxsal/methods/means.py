"""Mean gradients of channels: what Grad-CAM weighs a layer's channels by."""

import math

import numpy as np
import onnx_ir as ir

from onnxsal.autodiff.rules.blocked import before_blocks
from onnxsal.graph.builder import Op
from onnxsal.graph.types import constant, dims


def mean_over_pixels(op: Op, gradient: ir.Value) -> ir.Value:
    """Return the mean of a gradient (N, C, h, w) over its rows and columns, (N, C, 1, 1).

    Where the layer is flattened into a linear one, the gradient is a product with the weights (K, C * h * w), and
    its mean the product with their means (K, C), taken here once: VGG16 has 102 million such weights, and reading
    them a second time would take a fifth of the forward pass. Where the layer is averaged, the gradient is one number
    a channel times an array of shares.
    """
    spread = _spread_number(gradient)
    if spread is not None:
        number, shares = spread
        return op.Mul(number, float(shares.mean()))
    product, sizes = _flattened_product(gradient), dims(gradient) or ()
    weights = None if product is None else constant(product.inputs[1])
    if product is None or weights is None:
        return op.ReduceMean(gradient, axes=[2, 3])
    transB = product.attributes.get_int("transB", 0)
    pixels = (*sizes[1:2], -1)
    shape, axis = ((*pixels, weights.shape[1]), 1) if transB else ((weights.shape[0], *pixels), 2)
    means = op.const(weights.reshape(shape).mean(axis=axis), gradient.dtype)
    alpha = product.attributes.get_float("alpha", 1.0)
    rows = op.Gemm(product.inputs[0], means, alpha=alpha, transB=transB)
    return op.Unsqueeze(rows, [2, 3])


def _spread_number(gradient: ir.Value) -> tuple[ir.Value, np.ndarray] | None:
    """Return the (N, C, 1, 1) and the constant (1, 1, h, w) that the gradient is the product of, else None."""
    node = before_blocks(gradient).producer()  # type: ignore[no-untyped-call]  # rules are not annotated
    if node is None or node.op_type != "Mul" or node.inputs[0] is None:
        return None
    number, shares = node.inputs[0], constant(node.inputs[1])
    if shares is None or shares.ndim != 4 or shares.shape[:2] != (1, 1) or (dims(number) or ())[2:] != (1, 1):
        return None
    return number, shares


def _flattened_product(gradient: ir.Value) -> ir.Node | None:
    """Return the Gemm whose rows (N, C * h * w) the gradient is, reshaped; None if it is something else."""
    reshape = gradient.producer()
    if reshape is None or reshape.op_type != "Reshape" or reshape.inputs[0] is None:
        return None
    product, sizes = reshape.inputs[0].producer(), (dims(gradient) or ())[1:]
    if product is None or product.op_type != "Gemm" or len(product.inputs) > 2:
        return None
    columns = [d for d in sizes if isinstance(d, int)]
    flat = (dims(reshape.inputs[0]) or (None, None))[1]
    return product if len(columns) == 3 and flat == math.prod(columns) else None
