"""Mend the nodes of a graph that was exported for one sample: shapes, sizes and class tokens for one."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import opset_of
from onnxsal.graph.shapes import Shape, Shapes

SAMPLES = 2
# These address elements by number, the sample's included.
ADDRESSING = frozenset({"GatherND", "ScatterND", "ScatterElements", "GatherElements", "NonMaxSuppression"})


class BatchPatch:
    """Walks a graph with one sample and with two, and mends the nodes that only know of one.

    Which axis of a value holds the samples is seen by comparing its two shapes.
    """

    def __init__(self, model: ir.Model, single: Shapes, several: Shapes) -> None:
        """Start to mend `model`, in place.

        Args:
            model: A model in canonical form, exported for one sample.
            single: Its shapes for one sample.
            several: Its shapes for `SAMPLES`, of the inputs so far.
        """
        self._graph = model.graph
        self._op = Op(model.graph, opset_of(model), model.ir_version or 10)
        self._single = single
        self._several = several
        # Samples lie outermost in their axis, but for these values: (T, N, C) seen as (T * N, C) has T outside.
        self._outside: dict[ir.Value, int] = {}

    def apply(self) -> bool:
        """Mend every node, in place; tell whether the samples could be followed to every output."""
        for node in list(self._graph):
            if not any(self._is_batched(v) for v in node.inputs):
                self._several.add(node)
            elif not self._mend(node):
                return False
        return all(self._axis(v) == 0 for v in self._graph.outputs)

    def _is_batched(self, value: ir.Value | None) -> bool:
        return value is not None and self._single.shape(value) != self._several.shape(value)

    def _axis(self, value: ir.Value | None) -> int | None:
        """Return the one axis that grows with the samples, or None if it cannot be told."""
        one, two = self._single.shape(value), self._several.shape(value)
        if one is None or two is None or len(one) != len(two):
            return None
        grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        return grown[0] if len(grown) == 1 and two[grown[0]] == SAMPLES * one[grown[0]] else None

    def _mend(self, node: ir.Node) -> bool:
        """Mend one node that samples flow through; tell whether they can be followed behind it."""
        if node.domain not in ("", "ai.onnx") or node.op_type in ADDRESSING:
            return False
        mend = {
            "Reshape": self._mend_reshape,
            "Resize": self._mend_resize,
            "Concat": self._mend_concat,
            "Expand": self._mend_expand,
            "Slice": self._mend_slice,
        }
        if node.op_type in mend and not mend[node.op_type](node):
            return False
        self._several.add(node)
        if node.op_type in ("Shape", "Size"):
            return True
        if node.op_type != "Reshape":
            self._hand_on(node)
        return all(self._axis(v) is not None for v in node.outputs if v.name)

    def _hand_on(self, node: ir.Node) -> None:
        """Keep what lies outside the samples for outputs whose axis is that of an input."""
        for source in node.inputs:
            if source is None or source not in self._outside:
                continue
            size = self._single.shape(source)[self._axis(source)]  # type: ignore[index]
            for value in node.outputs:
                axis, shape = self._axis(value), self._single.shape(value)
                if axis is not None and shape is not None and shape[axis] == size:
                    self._outside[value] = self._outside[source]

    # ----- Reshape -----

    def _mend_reshape(self, node: ir.Node) -> bool:
        """Let the dimension of the samples follow from the number of elements, or from the input."""
        data, before, after = node.inputs[0], self._axis(node.inputs[0]), self._single.shape(node.outputs[0])
        one, two = self._single.shape(data), self._several.shape(data)
        if data is None or before is None or one is None or two is None or after is None or 0 in after:
            return False
        goal = _where_samples_go(prod(one[:before]) * self._outside.get(data, 1), before, after)
        if goal is None:
            return False
        axis, outside = goal
        if outside > 1:
            self._outside[node.outputs[0]] = outside
        wanted = tuple(n * SAMPLES if a == axis else n for a, n in enumerate(after))
        literal = self._several.array(node.inputs[1])
        copies = not node.attributes.get_int("allowzero", 0)
        if literal is not None and _resolve(literal.tolist(), two, copies=copies) == wanted:
            return True
        for numbers in self._shapes_for(literal, axis, before, after):
            if _resolve(numbers, two, copies=True) == wanted:
                node.replace_input_with(1, self._op.const(np.array(numbers, np.int64)))
                node.attributes.pop("allowzero", None)
                return True
        return False

    def _shapes_for(self, literal: Any, axis: int, before: int, after: Shape) -> list[list[int]]:
        """Return shapes to try: the model's own with another number at `axis`, then all known numbers."""
        own = [int(n) for n in literal] if literal is not None else list(after)
        copied = [[0 if a == axis else n for a, n in enumerate(own)]] if axis == before else []
        counted = [[-1 if a == axis else n for a, n in enumerate(numbers)] for numbers in (own, after)]
        return copied + counted

    # ----- Others -----

    def _mend_resize(self, node: ir.Node) -> bool:
        """Give sizes for the axes that are resized only, so that the samples are not."""
        sizes = self._single.array(node.inputs[3]) if len(node.inputs) > 3 else None
        axis = self._axis(node.inputs[0])
        if axis is None:
            return False
        if sizes is None or "axes" in node.attributes:
            return True
        rest = [a for a in range(len(sizes)) if a != axis]
        node.replace_input_with(3, self._op.const(np.array([sizes[a] for a in rest], np.int64)))
        node.attributes["axes"] = ir.AttrInt64s("axes", rest)
        return True

    def _mend_expand(self, node: ir.Node) -> bool:
        """Leave the axis of the samples as it is; a shape that was computed and folded names its size."""
        axis, one, after = self._axis(node.inputs[0]), *map(self._single.shape, (node.inputs[0], node.outputs[0]))
        literal = self._several.array(node.inputs[1])
        if axis is None or one is None or after is None or literal is None:
            return axis is not None
        at = axis - len(one) + len(literal)
        if at >= 0 and literal[at] == one[axis] > 1:
            node.replace_input_with(1, self._op.const(np.where(np.arange(len(literal)) == at, 1, literal)))
        return True

    def _mend_slice(self, node: ir.Node) -> bool:
        """Let a slice that takes all of one sample take all of them."""
        axis, one = self._axis(node.inputs[0]), self._single.shape(node.inputs[0])
        starts, ends, axes, steps = (self._several.array(v) for v in [*node.inputs[1:], None, None][:4])
        if axis is None or one is None or starts is None or ends is None or (steps is not None and np.any(steps != 1)):
            return axis is not None
        along = np.arange(len(starts)) if axes is None else axes % len(one)
        whole = (along == axis) & (starts == 0) & (ends >= one[axis])
        if np.any(whole):
            node.replace_input_with(2, self._op.const(np.where(whole, np.iinfo(np.int64).max, ends)))
        return True

    def _mend_concat(self, node: ir.Node) -> bool:
        """Repeat what is joined to every sample, such as a class token."""
        like = next(v for v in node.inputs if v is not None and self._is_batched(v))
        axis, shape = self._axis(like), self._single.shape(like)
        if axis is None or shape is None or shape[axis] != 1:
            # Nothing needs repeating where all parts have the samples.
            return all(self._is_batched(v) for v in node.inputs)
        if axis == node.attributes.get_int("axis", 0) % len(shape):
            return False
        for index, value in enumerate(node.inputs):
            if value is not None and not self._is_batched(value):
                node.replace_input_with(index, self._repeated(node, value, like, axis, len(shape)))
        return True

    def _repeated(self, before: ir.Node, value: ir.Value, like: ir.Value, axis: int, rank: int) -> ir.Value:
        """Return `value` as often as `like` has samples, emitted in front of `before`."""
        count = len(self._graph)
        size = self._op.Shape(like, start=axis, end=axis + 1)
        ones = [self._op.const([1] * n) for n in (axis, rank - 1 - axis) if n]
        shape = self._op.Concat(*ones[: axis > 0], size, *ones[axis > 0 :], axis=0)
        repeated: ir.Value = self._op.Expand(value, shape)
        for node in list(self._graph)[count:]:
            self._graph.remove(node)
            self._graph.insert_before(before, node)
            self._single.add(node)
            self._several.add(node)
        return repeated


def _where_samples_go(outside: int, before: int, after: Shape) -> tuple[int, int] | None:
    """Return the axis of `after` that holds the samples, and how many of its elements lie outside them.

    A Reshape keeps the order of elements, so as many lie outside the samples as did. An axis of their
    own is taken if there is one; else they share the axis that begins there, but not the last, which
    holds features: then the axis that ends there.

    Args:
        outside: How many elements lie outside the samples in the input, of one sample.
        before: The axis they are on in the input.
        after: Shape of the output, of one sample.
    """
    fitting = []
    for axis, size in enumerate(after):
        within, rest = divmod(outside, prod(after[:axis]))
        if rest == 0 and within > 0 and size % within == 0:
            alone, last = size == within == 1, axis == len(after) - 1
            fitting.append(((not alone, not (alone and axis == before), last, within > 1), (axis, within)))
    return min(fitting)[1] if fitting else None


def _resolve(literal: Sequence[int], shape: Shape, *, copies: bool) -> Shape | None:
    """Return the shape that Reshape makes of `shape`; None if it cannot."""
    if literal.count(-1) > 1 or any(n == 0 and a >= len(shape) for a, n in enumerate(literal)):
        return None
    found = [shape[a] if n == 0 and copies else n for a, n in enumerate(literal)]
    rest = prod(n for n in found if n != -1)
    if -1 in found:
        if rest == 0 or prod(shape) % rest:
            return None
        found[found.index(-1)] = prod(shape) // rest
    return tuple(found) if prod(found) == prod(shape) else None
