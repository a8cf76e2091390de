"""Cotangents that are zero outside a window of one axis.

What reads one token of many, or the query of query, key and value, hands back a cotangent padded with zeros. As long
as operators treat the entries along that axis one by one, their rules need to see the window alone; and windows that
lie side by side are put together, not padded and added. The classifier of a ViT reads one token of 197: so the last
block's linear layers, a twelfth of the model, are passed for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.types import constant, dims

ELEMENTWISE = frozenset(
    {"Abs", "Add", "Cast", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"}
    | {"LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Sin"}
    | {"Softplus", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "Where"}
)


@dataclass(frozen=True)
class Window:
    """A cotangent that is zero before and behind its core along an axis.

    Attributes:
        core: What is not known to be zero.
        axis: Of the cotangent.
        begin: Where the core begins along it.
        end: Where it ends.
        size: The cotangent's.
    """

    core: ir.Value
    axis: int
    begin: int
    end: int
    size: int

    def cut(self, op: Op, value: ir.Value) -> ir.Value:
        """Return what of a value, which broadcasts to the cotangent's shape, lies in the window."""
        axis = self._axis_in(value)
        return value if axis is None else op.Slice(value, [self.begin], [self.end], [axis])

    def widen(self, op: Op, g: ir.Value, value: ir.Value) -> ir.Value:
        """Return the cotangent of a value, given that of what `cut` returned of it."""
        axis = self._axis_in(value)
        return g if axis is None else _pad(op, g, axis, self.begin, self.size - self.end)

    def _axis_in(self, value: ir.Value) -> int | None:
        """Return the window's axis in a value, or None where it has one entry along it, or none."""
        shape = dims(value) or ()
        axis = self.axis - len(dims(self.core) or ()) + len(shape)
        return axis if axis >= 0 and shape[axis] == self.size != 1 else None


def window_of(g: ir.Value) -> Window | None:
    """Return the window of a cotangent that was padded with zeros along one axis, else None."""
    node = g.producer()
    if node is None or node.op_type != "Pad" or node.domain != "" or len(node.inputs) != 3:
        return None
    pads, fill, core = constant(node.inputs[1]), constant(node.inputs[2]), node.inputs[0]
    if pads is None or fill is None or fill.item() != 0 or core is None or "mode" in node.attributes:
        return None
    before, behind = np.split(pads, 2)
    axes = np.flatnonzero((before != 0) | (behind != 0))
    if len(axes) != 1 or (pads < 0).any():
        return None
    axis = int(axes[0])
    count, begin = (dims(core) or (None,) * len(before))[axis], int(before[axis])
    return (
        Window(core, axis, begin, begin + count, begin + count + int(behind[axis])) if isinstance(count, int) else None
    )


def passes(node: ir.Node, window: Window) -> bool:
    """Tell whether a node computes what lies in the window of its output from what lies there of its inputs."""
    shapes = [dims(v) for v in [node.outputs[0], *node.inputs] if v is not None]
    if node.domain != "" or any(s is None for s in shapes) or sum(bool(v.name) for v in node.outputs) != 1:
        return False
    rank = len(shapes[0] or ())
    if node.op_type in ELEMENTWISE:
        return all(_fits(shape or (), window, rank) for shape in shapes)
    if node.op_type in ("LayerNormalization", "Softmax", "LogSoftmax"):
        axis = node.attributes.get_int("axis", -1) % rank
        return window.axis < axis if node.op_type == "LayerNormalization" else axis == rank - 1 > window.axis
    if node.op_type == "MatMul":
        B = node.inputs[1]
        return B is not None and B.is_initializer() and len(shapes[2] or ()) == 2 and window.axis < rank - 1
    return False


def _fits(shape: Sequence[object], window: Window, rank: int) -> bool:
    axis = window.axis - rank + len(shape)
    return axis < 0 or shape[axis] in (1, window.size)


def join(op: Op, parts: Sequence[ir.Value]) -> list[ir.Value]:
    """Put cotangents of one value together where all have windows of one axis that do not overlap."""
    windows = [w for w in map(window_of, parts) if w is not None]
    if len(windows) < len(parts) or len({(w.axis, w.size) for w in windows}) != 1:
        return list(parts)
    cores: dict[tuple[int, int], ir.Value] = {}
    for w in windows:
        place = (w.begin, w.end)
        cores[place] = op.Add(cores[place], w.core) if place in cores else w.core
    places = sorted(cores)
    if any(a[1] != b[0] for a, b in pairwise(places)):
        return list(parts)
    axis, size = windows[0].axis, windows[0].size
    joined = op.Concat(*(cores[p] for p in places), axis=axis) if len(places) > 1 else cores[places[0]]
    return [_pad(op, joined, axis, places[0][0], size - places[-1][1])]


def _pad(op: Op, value: ir.Value, axis: int, before: int, behind: int) -> ir.Value:
    if not (before or behind):
        return value
    n = len(dims(value) or ())
    pads = [0] * (2 * n)
    pads[axis], pads[n + axis] = before, behind
    return op.Pad(value, pads, op.scalar(0, like=value))
