"""Rules for what puts windows back in their places: MaxUnpool, Col2Im."""

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.types import dims


@vjp("MaxUnpool", wrt="X")
def max_unpool(op, node, g):
    # Indices count through the whole output, batch and channels included.
    return op.Gather(op.Reshape(g, [-1]), node.I)


@vjp("Col2Im", wrt="input")
def col2im(op, node, g):
    """Collect the windows again: a convolution whose k-th kernel reads the k-th entry of a window."""
    (n,) = dims(node.image_shape)
    block = node.const("block_shape")
    entries = op.ReduceProd(node.block_shape, keepdims=1)
    places = op.Range(0, op.Squeeze(entries, [0]), 1)
    kernels = op.cast(op.Equal(op.Unsqueeze(places, [1]), places), g.dtype)
    windows = op.Conv(
        op.Reshape(g, concat(op, op.const([-1, 1]), node.image_shape)),
        op.Reshape(kernels, op.Concat(op.const([-1, 1]), node.block_shape, axis=0)),
        kernel_shape=None if block is None else block.tolist(),
        strides=node.attrs.get("strides", [1] * n),
        dilations=node.attrs.get("dilations", [1] * n),
        pads=node.attrs.get("pads", [0] * (2 * n)),
        group=1,
    )
    return op.reshape_like(windows, node.input)
