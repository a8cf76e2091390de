"""How each operator carries places from its inputs to its outputs.

An operator without a rule here leaves its outputs nowhere, which is never wrong: such a value is only
not offered as a layer.
"""

from collections.abc import Sequence

import numpy as np

from onnxsal.graph.shapes import Shape
from onnxsal.model import places
from onnxsal.model.places import Place
from onnxsal.model.step import Result, Step, rule

# Data movement: an output that lies nowhere has left all cells out, and mixed none.
MOVES = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Concat", "Split", "Pad"}
    | {"Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Col2Im"}
)

_ELEMENT_BY_ELEMENT = """
Abs Acos Acosh Asin Asinh Atan Atanh Cos Cosh Erf Exp Log Neg Reciprocal Sigmoid Sin Sinh Sqrt Tan Tanh Identity
Cast CastLike Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Shrink Softplus Softsign
Swish ThresholdedRelu Add Sub Mul Div Pow Mod Max Min Mean Sum Where Dropout CumSum Ceil Floor Round Sign Hardmax
Softmax LogSoftmax QuantizeLinear DequantizeLinear DynamicQuantizeLinear BatchNormalization InstanceNormalization
LayerNormalization GroupNormalization RMSNormalization LRN LpNormalization MeanVarianceNormalization
"""
_REDUCTIONS = """
ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare
"""

# ----- Element by element -----


@rule(*_ELEMENT_BY_ELEMENT.split())
def keep(step: Step) -> Result:
    """Broadcast: the operand that tells most places apart wins (a map over its gate)."""
    shape = step.output_shape()
    if shape is None:
        return None
    placed = {v: places.align(p, len(shape)) for v, p in step.placed.items()}
    winner = max(placed.values(), key=lambda p: p.size)
    step.carriers = [v for v, p in placed.items() if places.same(p, winner)]
    return winner


# ----- Movement -----


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(step: Step) -> Result:
    place, shape = step.place(0), step.output_shape()
    return None if place is None or shape is None else places.reshape(place, step.shape(0), shape)


@rule("Transpose")
def transpose(step: Step) -> Result:
    place = step.place(0)
    assert place is not None
    perm = step.node.attributes.get_ints("perm") or range(place.ndim - 1)[::-1]
    return place.transpose(0, *(axis + 1 for axis in perm))


@rule("Slice")
def slice_(step: Step) -> Result:
    place, starts, ends = step.place(0), step.const(1), step.const(2)
    if place is None or starts is None or ends is None:
        return None
    axes = step.ints(3, "") or range(len(starts))
    steps = step.ints(4, "") or [1] * len(starts)
    index = [slice(None)] * place.ndim
    for axis, start, end, stride in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        axis %= place.ndim - 1
        if place.shape[axis + 1] > 1:
            # ONNX's "before the first element" is any number below -size, which Python wants as None.
            end = None if stride < 0 and end < -place.shape[axis + 1] else end
            index[axis + 1] = slice(start, end, stride)
    return place[tuple(index)]


@rule("Gather")
def gather(step: Step) -> Result:
    place, indices = step.place(0), step.const(1)
    if place is None:
        return None
    axis = step.axis()
    if place.shape[axis + 1] == 1:
        added = len(step.output_shape() or ()) - (place.ndim - 1)  # the rank of the indices, less one
        shape = [*place.shape[: axis + 1], *(1,) * (added + 1), *place.shape[axis + 2 :]]
        return place.reshape(shape)
    return None if indices is None else np.take(place, indices, axis=axis + 1)


@rule("Concat")
def concat(step: Step) -> Result:
    parts = [step.place(i) for i in range(len(step.node.inputs))]
    axis = step.axis()
    shapes = [step.known_shape(i) for i in range(len(parts))]
    if any(s is None for s in shapes):
        return None
    return places.concatenate(parts, [s[axis] for s in shapes if s is not None], axis)


@rule("Split")
def split(step: Step) -> Result:
    place, axis = step.place(0), step.axis()
    shapes = [step.output_shape(i) for i in range(len(step.node.outputs))]
    if place is None or any(s is None for s in shapes):
        return None
    if place.shape[axis + 1] == 1:
        return [place] * len(shapes)
    ends = np.cumsum([s[axis] for s in shapes if s is not None])
    return list(np.split(place, ends[:-1], axis=axis + 1))


@rule("Pad")
def pad(step: Step) -> Result:
    place, pads = step.place(0), step.ints(1, "pads")
    if place is None or pads is None:
        return None
    axes = [a % (place.ndim - 1) for a in step.ints(3, "") or range(place.ndim - 1)]
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        size = place.shape[axis + 1]
        if size > 1:
            place = np.take(place, range(max(-before, 0), size - max(-after, 0)), axis=axis + 1)
            borders = [(0, 0)] * place.ndim
            borders[axis + 1] = (max(before, 0), max(after, 0))
            # Whatever the mode repeats there, these cells are no part of the image of their own.
            place = np.pad(place, borders, constant_values=np.nan)
    return place


@rule("Expand")
def expand(step: Step) -> Result:
    return step.place(0)


@rule("Tile")
def tile(step: Step) -> Result:
    place, repeats = step.place(0), step.ints(1, "")
    if place is None or repeats is None:
        return None
    return np.tile(place, [1, *(n if size > 1 else 1 for n, size in zip(repeats, place.shape[1:], strict=True))])


@rule("DepthToSpace")
def depth_to_space(step: Step) -> Result:
    """Channels become finer cells of their own; where they have places of their own, these are moved."""
    place, shape = step.place(0), step.output_shape()
    if place is None or shape is None:
        return None
    if place.shape[2] == 1:
        return places.resample(place, step.shape(0)[2:], shape[2:])
    n, c, h, w = step.shape(0)
    b = step.node.attributes.get_int("blocksize", 1)
    if step.node.attributes.get_string("mode", "DCR") == "DCR":
        return _through(place, (n, c, h, w), (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2), shape)
    return _through(place, (n, c, h, w), (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3), shape)


@rule("SpaceToDepth")
def space_to_depth(step: Step) -> Result:
    place, shape = step.place(0), step.output_shape()
    if place is None or shape is None:
        return None
    n, c, h, w = step.shape(0)
    b = step.node.attributes.get_int("blocksize", 1)
    return _through(place, (n, c, h, w), (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), shape)


@rule("Col2Im")
def col2im(step: Step) -> Result:
    """Patches side by side go back to where they were cut out; patches that overlap add up, and lie nowhere."""
    place, shape, sizes, block = step.place(0), step.output_shape(), step.const(1), step.const(2)
    if place is None or shape is None or sizes is None or block is None:
        return None
    steps = step.node.attributes.get_ints("strides") or [1] * len(block)
    if list(steps) != block.tolist() or any((sizes % block).tolist()) or _has_pads_or_gaps(step):
        return None
    axes = len(block)
    split = [*shape[:2], *block.tolist(), *(sizes // block).tolist()]
    perm = [0, 1, *(axis + 2 + of for axis in range(axes) for of in (axes, 0))]
    return _through(place, step.shape(0), split, perm, shape)


def _has_pads_or_gaps(step: Step) -> bool:
    pads, dilations = (step.node.attributes.get_ints(name) or () for name in ("pads", "dilations"))
    return any(pads) or any(d != 1 for d in dilations)


def _through(place: Place, before: Shape, split: Sequence[int], perm: Sequence[int], after: Shape) -> Place | None:
    """Reshape from `before` to `split`, transpose, and reshape to `after`."""
    opened = places.reshape(place, before, split)
    if opened is None:
        return None
    return places.reshape(opened.transpose(0, *(a + 1 for a in perm)), [split[a] for a in perm], after)


# ----- Windows -----


@rule("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "DeformConv", "MaxPool", "AveragePool", "LpPool", "Resize")
def window(step: Step) -> Result:
    place, shape = step.place(0), step.output_shape()
    if place is None or shape is None or len(shape) < 3:
        return None
    return places.resample(place, step.shape(0)[2:], shape[2:])


# ----- Contraction -----


@rule("MatMul", "MatMulInteger", "QLinearMatMul")
def matmul(step: Step) -> Result:
    """A row keeps where it lies; if the rows on the left lie nowhere, columns on the right do."""
    right_at = 3 if step.node.op_type == "QLinearMatMul" else 1
    shape, left, right = step.output_shape(), step.place(0), step.place(right_at)
    if shape is None or len(shape) < 2:
        return None
    candidates = []
    if left is not None and left.ndim > 2:
        candidates.append((0, places.mean(left, [left.ndim - 2])))
    if right is not None and right.ndim > 2:
        candidates.append((right_at, places.mean(right, [right.ndim - 3])))
    return _first_somewhere(step, [(at, places.align(place, len(shape))) for at, place in candidates])


@rule("Gemm")
def gemm(step: Step) -> Result:
    """As MatMul, with either side transposed."""
    candidates = []
    for at, flag, contracted in ((0, "transA", 1), (1, "transB", 0)):
        place = step.place(at)
        if place is None:
            continue
        if step.node.attributes.get_int(flag, 0):
            place = place.transpose(0, 2, 1)
        candidates.append((at, places.mean(place, [contracted])))
    return _first_somewhere(step, candidates)


@rule("Einsum")
def einsum(step: Step) -> Result:
    """An operand keeps the places along its letters that the output has; the first that has any wins."""
    equation = step.node.attributes.get_string("equation", "").replace(" ", "")
    if "->" not in equation or "." in equation:
        return None
    left, output = equation.split("->")
    candidates = []
    for at, letters in enumerate(left.split(",")):
        place = step.place(at)
        if place is None or len(set(letters)) != len(letters):
            continue
        gone = [i for i, letter in enumerate(letters) if letter not in output]
        place = np.squeeze(places.mean(place, gone), tuple(i + 1 for i in gone))
        kept = [letter for letter in letters if letter in output]
        place = place.transpose(0, *(1 + kept.index(letter) for letter in output if letter in kept))
        place = np.expand_dims(place, tuple(i + 1 for i, letter in enumerate(output) if letter not in kept))
        candidates.append((at, place))
    return _first_somewhere(step, candidates)


@rule("Attention")
def attention(step: Step) -> Result:
    """Each query keeps where it lies."""
    place, shape = step.place(0), step.output_shape()
    step.carriers = [v for v in step.carriers if v is step.input(0)]
    if place is None or shape is None or place.ndim - 1 != len(shape):
        return None
    return places.mean(place, [place.ndim - 2])


def _first_somewhere(step: Step, candidates: Sequence[tuple[int, Place]]) -> Place | None:
    """Return the first that tells cells apart; the other operands' cells are mixed."""
    step.carriers = []
    for at, place in candidates:
        if places.is_somewhere(place):
            value = step.input(at)
            step.carriers = [value] if value is not None else []
            return place
    return None


@rule(*_REDUCTIONS.split())
def reduce(step: Step) -> Result:
    place, shape = step.place(0), step.output_shape()
    if place is None or shape is None:
        return None
    axes = step.ints(1, "axes")
    if axes is None and step.input(1) is not None:
        return None
    if not axes:
        return place if step.node.attributes.get_int("noop_with_empty_axes", 0) else None
    axes = [axis % (place.ndim - 1) for axis in axes]
    place = places.mean(place, axes)
    return place if len(shape) == place.ndim - 1 else np.squeeze(place, tuple(axis + 1 for axis in axes))
