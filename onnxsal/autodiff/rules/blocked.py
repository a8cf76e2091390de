"""The blocked layout in which ONNX Runtime computes convolutions on a CPU, and the way into it.

Convolutions and poolings run on blocks of 8 or 16 channels (NCHWc), and so do element-wise operators all of whose
operands come out of these. One operand in the plain layout keeps all that is behind it in the plain layout too, down
the chain of residual additions to the next convolution: masks are reordered, additions no longer fuse with their Conv.
"""

import onnx_ir as ir

from onnxsal.graph.types import dims

BLOCK = 16


def enter_blocks(op, value):
    """Return `value`, by way of a pooling over single entries, which leaves it as it is but in blocks.

    Behind the three ConvTranspose of ResNet-50 and its head that is 12 reorders instead of 43, and 1.06 as fast.
    """
    return op.AveragePool(value, kernel_shape=[1, 1]) if blocked_channels(op, value) else value


def before_blocks(value):
    """Return what `enter_blocks` was given to make this value; the value itself if it did not make it."""
    node = value.producer()
    if node is None or node.op_type != "AveragePool" or set(node.attributes) != {"kernel_shape"}:
        return value
    return node.inputs[0] if set(node.attributes["kernel_shape"].value) == {1} else value


def blocked_channels(op, value):
    """Return the channels of a value that the runtime has in blocks, if it comes out of a convolution; 0 else."""
    shape = dims(value)
    if not op.runtime.blocks or value.dtype != ir.DataType.FLOAT:
        return 0
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return 0
    return shape[1] if shape[1] % BLOCK == 0 else 0
