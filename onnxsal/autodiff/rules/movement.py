"""Rules for what only moves elements: shapes, axes, joining and parting, copies.

Each is linear, and its vjp is the move back. None needs to know a size before the run.
"""

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules import windows
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims

# ----- Same elements, other shape -----


@vjp("Reshape", wrt="data")
@vjp("Squeeze", wrt="data")
@vjp("Unsqueeze", wrt="data")
def reshape(op, node, g):
    return op.reshape_like(g, node.data)


@vjp("Flatten", wrt="input")
def flatten(op, node, g):
    return op.reshape_like(g, node.input)


# ----- Same elements, other order -----


@vjp("Transpose", wrt="data")
def transpose(op, node, g):
    perm = node.attrs.get("perm")
    # Without perm the axes are reversed, which undoes itself.
    return op.Transpose(g, perm=perm and [perm.index(axis) for axis in range(len(perm))])


@vjp("DepthToSpace", wrt="input")
def depth_to_space(op, node, g):
    size = node.attrs["blocksize"]
    depth = op.SpaceToDepth(g, blocksize=size)
    if node.attrs["mode"] == "DCR":
        return depth
    # SpaceToDepth puts the place within the block first, CRD the channel.
    places = op.ReduceProd(op.Shape(depth, start=2), keepdims=1)
    shape = windows.concat(op, op.dim(g, 0), op.const([size * size]), op.dim(g, 1), places)
    parts = op.Reshape(depth, shape, allowzero=1)
    return op.reshape_like(op.Transpose(parts, perm=[0, 2, 1, 3]), node.input)


@vjp("SpaceToDepth", wrt="input")
def space_to_depth(op, node, g):
    # Up to opset 27 there is one mode.
    return op.DepthToSpace(g, blocksize=node.attrs["blocksize"], mode=node.attrs.get("mode", "DCR"))


@vjp("ReverseSequence", wrt="input")
def reverse_sequence(op, node, g):
    return op.ReverseSequence(g, node.sequence_lens, **node.attrs)


# ----- Fewer elements, or more -----


@vjp("Trilu", wrt="input")
def trilu(op, node, g):
    return op.Trilu(g, node.k, upper=node.attrs["upper"])


@vjp("CenterCropPad", wrt="input_data")
def center_crop_pad(op, node, g):
    axes = node.attrs.get("axes")
    size = op.shape(node.input_data)
    return op.CenterCropPad(g, size if axes is None else op.Gather(size, op.const(axes)), axes=axes)


@vjp("Expand", wrt="input")
def expand(op, node, g):
    return g


@vjp("Tile", wrt="input")
def tile(op, node, g):
    """Sum the copies: along each axis they lie one behind the other."""
    n = rank(node.input)
    if n == 0:
        return g
    pairs = op.Concat(op.Unsqueeze(node.repeats, [1]), op.Unsqueeze(op.shape(node.input), [1]), axis=1)
    return op.ReduceSum(op.Reshape(g, op.Reshape(pairs, [-1]), allowzero=1), list(range(0, 2 * n, 2)), keepdims=0)


# ----- Joined and parted -----


@vjp("Concat", wrt="inputs")
def concat(op, node, g):
    if len(node.inputs) == 1:
        return [g]
    axis = node.attrs["axis"]
    return op.Split(g, sizes(op, node.inputs, axis), axis=axis, outputs=len(node.inputs))


def sizes(op, values, axis):
    """Return the sizes of several values along one axis, int64 (len(values),)."""
    known = [dims(v)[axis] for v in values]
    if all(isinstance(size, int) for size in known):
        return op.const(known)
    return op.Concat(*[op.dim(v, axis) for v in values], axis=0)


@vjp("Split", wrt="input")
def split(op, node, g):
    parts = [op.zeros_like(y) if part is None else part for y, part in zip(node.outputs, g, strict=True)]
    return op.Concat(*parts, axis=node.attrs["axis"])
