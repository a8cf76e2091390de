"""Rules for DFT and STFT, from the transform the other way: F*g = N · F⁻¹g, and (F⁻¹)*g = F g / N.

Real numbers have a last axis of length 1, complex ones of length 2; a cotangent is a complex number's two
partial derivatives. What is real gets the real part.
"""

import onnx_ir as ir

from onnxsal.autodiff.registry import vjp
from onnxsal.autodiff.rules.tracing import scatter
from onnxsal.graph.types import constant, dims


@vjp("DFT", wrt="input")
def dft(op, node, g):
    length = _length(op, node)
    if not node.attrs["inverse"]:
        found = _transposed(op, g, length, node.axis)
    elif node.attrs["onesided"]:
        return _fit(op, node, _half_spectrum(op, node, g, length))
    else:
        found = op.Div(op.DFT(g, None, node.axis), op.cast(length, g.dtype))
    found = _like(op, found, node.input)
    return found if node.dft_length is None else _fit(op, node, found)


def _transposed(op, g, length, axis):
    """Return N · F⁻¹g; a g that is only half of the frequencies has zeros for the others."""
    return op.Mul(op.DFT(g, length, axis, inverse=1), op.cast(length, g.dtype))


def _half_spectrum(op, node, g, length):
    """Return the vjp of the inverse of half of the frequencies: all but the first and the middle one count twice."""
    found = op.DFT(g, None, node.axis, onesided=1)
    last = op.Div(length, op.const(2))
    places = op.Range(0, op.Add(last, op.const(1)), 1)
    twice = op.And(op.Greater(places, op.const(0)), op.Less(op.Mul(places, op.const(2)), length))
    count = op.cast(op.Add(op.cast(twice, length.dtype), op.const(1)), g.dtype)
    weight = op.Div(count, op.cast(length, g.dtype))
    return op.Mul(found, _along(op, node, weight, found))


def _along(op, node, vector, like):
    """Return a vector such that it broadcasts along the axis of the transform."""
    ones = op.Expand([1], op.Shape(op.Shape(like)))
    shape = op.ScatterElements(ones, _axis(op, node), op.Shape(vector), axis=0)
    return op.Reshape(vector, shape)


def _fit(op, node, value):
    """Cut a value, or pad it with zeros, to the input's size along the axis: the transform did it the other way."""
    axis = _axis(op, node)
    have, want = (op.Gather(op.Shape(v), axis) for v in (value, node.input))
    return op.Pad(value, op.Concat([0], op.Sub(want, have), axis=0), op.scalar(0, like=value), axis)


def _length(op, node):
    """Return N, rank 0."""
    if node.dft_length is not None:
        return op.cast(op.Reshape(node.dft_length, op.const([])), ir.DataType.INT64)
    size = op.Gather(op.Shape(node.input), op.Squeeze(_axis(op, node), [0]))
    if node.attrs["inverse"] and node.attrs["onesided"]:
        return op.Mul(op.Sub(size, op.const(1)), op.const(2))
    return size


def _axis(op, node):
    """Return the axis of the transform, int64 (1,): the last but one unless it is given."""
    if node.axis is None:
        return op.const([-2])
    known = constant(node.axis)
    return op.const(known.reshape(1)) if known is not None else op.Reshape(node.axis, [1])


def _like(op, value, primal):
    """Return the real part where `primal` is real."""
    shape = dims(primal)
    size = shape[-1] if shape is not None and isinstance(shape[-1], int) else None
    if size == 2:
        return value
    end = op.const([1]) if size == 1 else op.Shape(primal, start=-1)
    return op.Slice(value, [0], end, [-1])


# ----- Short frames -----


@vjp("STFT", wrt="signal")
def stft_signal(op, node, g):
    """Add up the frames' cotangents where the frames lie on the signal."""
    frames = _frames_cotangent(op, node, g)
    if node.window is not None:
        frames = op.Mul(frames, op.Unsqueeze(node.window, [1]))
    frames = op.Transpose(_like(op, frames, node.signal), perm=[1, 2, 0, 3])
    zeros = op.zeros_like(op.Transpose(node.signal, perm=[1, 0, 2]))
    places = op.Unsqueeze(_places(op, node, g), [2])
    return op.Transpose(scatter(op, op.ScatterND, zeros, places, frames, reduction="add"), perm=[1, 0, 2])


@vjp("STFT", wrt="window")
def stft_window(op, node, g):
    frames = op.Gather(node.signal, _places(op, node, g), axis=1)
    along = op.Mul(frames, _like(op, _frames_cotangent(op, node, g), node.signal))
    return op.ReduceSum(along, [0, 1, 3], keepdims=0)


def _frames_cotangent(op, node, g):
    """Return what arrives at the frames behind the window, (N, frames, places, 2)."""
    return _transposed(op, g, _frame_length(op, node), None)


def _frame_length(op, node):
    """Return how long a frame is, rank 0."""
    if node.frame_length is not None:
        return op.cast(op.Reshape(node.frame_length, op.const([])), ir.DataType.INT64)
    length = op.dim(node.signal, 1) if node.window is None else op.dim(node.window, 0)
    return op.Squeeze(length, [0])


def _places(op, node, g):
    """Return where on the signal each frame lies, int64 (frames, places)."""
    step = op.cast(op.Reshape(node.frame_step, op.const([])), ir.DataType.INT64)
    starts = op.Mul(op.Range(0, op.Squeeze(op.Shape(g, start=1, end=2), [0]), 1), step)
    return op.Add(op.Unsqueeze(starts, [1]), op.Range(0, _frame_length(op, node), 1))
