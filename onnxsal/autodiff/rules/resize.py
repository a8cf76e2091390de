"""The rule for Resize.

Resize is linear and separable: along each axis Y is a matrix times X. What that matrix is, under any
mode, Resize itself says: it is the resized identity. So the cotangent is contracted with one small matrix
per axis, which ONNX Runtime computes while it loads the model wherever the sizes are known.
"""

import math

import numpy as np

from onnxsal.autodiff.registry import declare_undefined, vjp
from onnxsal.autodiff.rules.windows import concat
from onnxsal.graph.builder import rank
from onnxsal.graph.types import dims, same_dim

# What the resized identity takes over from the node.
KERNEL = ("antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode", "nearest_mode")

# Nearest-neighbour modes that repeat each entry when the scale is a whole number: none rounds across an entry's edge.
REPEATING = {("asymmetric", "floor")} | {
    (mode, nearest)
    for mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    for nearest in ("round_prefer_floor", "round_prefer_ceil")
}


declare_undefined("Resize", "roi", "scales", why="sizes are not differentiated: compute them from shapes")


@vjp("Resize", wrt="X")
def resize(op, node, g):
    axes = [axis for axis in _axes(node) if not _untouched(node, axis)]
    repeats = _repeats(node, axes)
    if repeats:
        size = {"kernel_shape": repeats, "strides": repeats, "pads": [0] * (2 * len(repeats))}
        return op.Mul(op.AveragePool(g, **size), op.scalar(np.prod(repeats), like=g))
    for axis in reversed(axes):
        g = contract(op, g, axis, _matrix(op, node, axis, g.dtype))
    return g


def _axes(node):
    """Return the axes that `scales` or `sizes` speak of."""
    n = rank(node.X)
    return [axis % n for axis in node.attrs.get("axes", range(n))]


def _has(node, formal):
    """Tell whether `scales` or `sizes` is given, and not empty."""
    return node.has(formal) and dims(getattr(node, formal)) != (0,)


def _untouched(node, axis):
    """Tell whether an axis surely comes out as it went in."""
    if node.attrs["coordinate_transformation_mode"] == "tf_crop_and_resize" or _in_proportion(node):
        return False
    if _has(node, "scales"):
        return _scale(node, axis) == 1
    return same_dim(dims(node.X)[axis], dims(node.Y)[axis])


def _repeats(node, axes):
    """Return how often each spatial entry is repeated, if that is all that happens, else None."""
    mode = (node.attrs["coordinate_transformation_mode"], node.attrs["nearest_mode"])
    spatial = range(2, rank(node.X))
    if node.attrs["mode"] != "nearest" or mode not in REPEATING or not spatial or not set(axes) <= set(spatial):
        return None
    factors = [_factor(node, axis) if axis in axes else 1 for axis in spatial]
    return None if not axes or None in factors else factors


def _factor(node, axis):
    """Return the scale of an axis if it is a whole number, else None."""
    if _has(node, "scales"):
        scale = _scale(node, axis)
        return int(scale) if scale is not None and scale == int(scale) else None
    before, after = dims(node.X)[axis], dims(node.Y)[axis]
    whole = isinstance(before, int) and isinstance(after, int) and before > 0 and after % before == 0
    return after // before if whole and not _in_proportion(node) else None


def _scale(node, axis):
    """Return the scale that the model gives an axis, or None where only the run knows."""
    scales = node.const("scales")
    return None if scales is None else float(scales[_axes(node).index(axis)])


def _in_proportion(node):
    """Tell whether one scale, which `sizes` of all axes decide on together, rules."""
    return node.attrs["keep_aspect_ratio_policy"] != "stretch" and not _has(node, "scales")


def contract(op, g, axis, matrix):
    """Contract one axis of g with the first axis of a matrix."""
    n = rank(g)
    if axis == n - 1:
        return op.MatMul(g, matrix)
    adjoint = op.Transpose(matrix, perm=[1, 0])
    if axis == n - 2:
        return op.MatMul(adjoint, g)
    # The axes behind count as one: with g turned instead, the gradient along the batch was wrong on CUDA.
    sizes = [op.dim(g, a) for a in range(n)]
    flat = op.Reshape(g, concat(op, *sizes[: axis + 1], _product(op, g, axis + 1)), allowzero=1)
    shape = concat(op, *sizes[:axis], op.dim(matrix, 1), *sizes[axis + 1 :])
    return op.Reshape(op.MatMul(adjoint, flat), shape, allowzero=1)


def _product(op, value, start):
    """Return the number of entries along the axes from `start` on, as one entry."""
    sizes = (dims(value) or ())[start:]
    known = all(isinstance(d, int) for d in sizes)
    return op.const([math.prod(sizes)]) if known else op.ReduceProd(op.Shape(value, start=start), keepdims=1)


def _matrix(op, node, axis, dtype):
    """Return the (size of Y, size of X) matrix that Resize applies along an axis."""
    kernel = {name: node.attrs[name] for name in KERNEL}
    size = op.dim(node.X, axis)
    identity = _identity(op, size, dtype)
    # What lies outside does not depend on X, so the value that stands for it does not matter: it is left at 0.
    if _in_proportion(node):
        return _matrix_in_proportion(op, node, axis, identity, kernel)
    # As one image of one channel: not every provider resizes along batch and channels.
    image, roi = op.Unsqueeze(identity, [0, 1]), _roi(op, node, axis)
    if _has(node, "scales"):
        made = op.Resize(
            image, roi, concat(op, op.const([1.0, 1.0]), _entry(op, node, "scales", axis), op.const([1.0])), **kernel
        )
    else:
        made = op.Resize(image, roi, None, concat(op, op.const([1, 1]), op.dim(node.Y, axis), size), **kernel)
    return op.Squeeze(made, [0, 1])


def _identity(op, size, dtype):
    places = op.Range(0, op.Squeeze(size, [0]), 1)
    return op.Cast(op.Equal(op.Unsqueeze(places, [1]), places), to=dtype)


def _matrix_in_proportion(op, node, axis, identity, kernel):
    """Return the matrix where all axes decide on the scale: the others take part, then one entry of each is kept."""
    others = [a for a in _axes(node) if a != axis]
    m = len(others)
    shape = concat(op, op.dim(node.X, axis), op.const([1]), op.dim(node.X, axis), *(op.dim(node.X, a) for a in others))
    columns = op.Expand(op.Reshape(identity, [0, 1, -1] + [1] * m), shape)
    made = op.Resize(
        columns,
        None,
        None,
        concat(op, *(_entry(op, node, "sizes", a) for a in [axis, *others])),
        axes=list(range(2, 3 + m)),
        keep_aspect_ratio_policy=node.attrs["keep_aspect_ratio_policy"],
        **kernel,
    )
    first = op.Slice(made, [0] * m, [1] * m, list(range(3, 3 + m))) if m else made
    return op.Transpose(op.Reshape(first, [0, -1]), perm=[1, 0])


def _entry(op, node, formal, axis, offset=0):
    """Return what `scales`, `sizes` or `roi` has for an axis, as one entry."""
    at = _axes(node).index(axis) + offset
    known = node.const(formal)
    return op.Slice(getattr(node, formal), [at], [at + 1], [0]) if known is None else op.const(known[at : at + 1])


def _roi(op, node, axis):
    """Return the region of interest for the identity: the node's along the axis, all of it along the others."""
    if node.attrs["coordinate_transformation_mode"] != "tf_crop_and_resize":
        return None
    start, end = (_entry(op, node, "roi", axis, offset) for offset in (0, len(_axes(node))))
    before, zero, behind, one = (op.const(np.array(v), start.dtype) for v in ([0, 0], [0], [1, 1], [1]))
    return concat(op, before, start, zero, behind, end, one)
