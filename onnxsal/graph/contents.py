"""What small integer values hold, where it is known before the run: numbers, and names of sizes.

A name times a number is written `4*batch`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import Dim, constant, dims, static_shape

Content = list[Dim]

MOST = 64  # elements; no shape is longer


class Contents:
    """Entries of integer scalars and vectors; None where an entry is not known."""

    def __init__(self) -> None:
        """Know of constants only."""
        self._known: dict[ir.Value, Content] = {}

    def of(self, value: ir.Value | None) -> Content | None:
        """Return the entries of a value, or None where not even their number is known."""
        if value is None:
            return None
        if value not in self._known and value.const_value is not None and value.const_value.size <= MOST:
            array = constant(value)
            if array is not None and array.dtype.kind in "iub":
                self._known[value] = [int(n) for n in array.ravel()]
        return self._known.get(value)

    def array(self, value: ir.Value) -> np.ndarray[Any, Any] | None:
        """Return the value as an array if all of its entries are numbers."""
        found, shape = self.of(value), static_shape(value)
        if found is None or shape is None or math.prod(shape) != len(found) or value.dtype is None:
            return None
        numbers = [n for n in found if isinstance(n, int)]
        return np.array(numbers, value.dtype.numpy()).reshape(shape) if len(numbers) == len(found) else None

    def copy(self) -> "Contents":
        """Return what is known so far; what is learnt later stays out of it."""
        made = Contents()
        made._known = dict(self._known)
        return made

    def add(self, node: ir.Node) -> None:
        """Find what a node's first output holds."""
        inputs = [self.of(v) for v in node.inputs]
        found: Content | None = None
        if node.op_type == "Shape":
            found = _shape(node)
        elif node.op_type in COPIES and inputs[0] is not None:
            found = inputs[0]
        elif node.op_type == "Concat" and all(i is not None for i in inputs):
            found = [n for i in inputs for n in i or ()]
        elif node.op_type in PICKS and all(i is not None for i in inputs):
            found = PICKS[node.op_type](*inputs)
        elif node.op_type in EACH and all(i is not None for i in inputs):
            found = _each(EACH[node.op_type], [i for i in inputs if i is not None])
        if found is not None and len(found) <= MOST and _is_vector(node.outputs[0]):
            self._known[node.outputs[0]] = found


def _is_vector(value: ir.Value) -> bool:
    shape = dims(value)
    kinds = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
    return shape is not None and len(shape) <= 1 and value.dtype in kinds


def _shape(node: ir.Node) -> Content | None:
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None:
        return None
    return list(shape[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(shape))])


def _gather(data: Content, indices: Content) -> Content | None:
    if not all(isinstance(i, int) and -len(data) <= i < len(data) for i in indices):
        return None
    return [data[i] for i in indices if isinstance(i, int)]


def _slice(data: Content, starts: Content, ends: Content, axes: Content = (), steps: Content = (1,)) -> Content | None:  # type: ignore[assignment]
    bounds = [b for b in (*starts, *ends, *steps) if isinstance(b, int)]
    if len(starts) != 1 or len(bounds) != 3 or bounds[2] < 1:
        return None
    return data[bounds[0] : bounds[1] : bounds[2]]


def _each(function: Callable[..., Dim], inputs: Sequence[Content]) -> Content | None:
    """Apply a function entry by entry; a single entry goes with each of the others."""
    length = max(map(len, inputs))
    if any(len(i) not in (1, length) for i in inputs):
        return None
    return [function(*(i[0] if len(i) == 1 else i[k] for i in inputs)) for k in range(length)]


# ----- Entries -----


def _numbers(function: Callable[[int, int], int]) -> Callable[[Dim, Dim], Dim]:
    return lambda a, b: function(a, b) if isinstance(a, int) and isinstance(b, int) else None


def _of_any_number(function: Callable[[Iterable[int]], int]) -> Callable[..., Dim]:
    return lambda *sizes: function(numbers) if len(numbers := _integers(sizes)) == len(sizes) else None


def _integers(sizes: Iterable[Dim]) -> list[int]:
    return [n for n in sizes if isinstance(n, int)]


def _times(a: Dim, b: Dim) -> Dim:
    return product([a, b])


def _divided(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else (a // b if (a < 0) == (b < 0) else -(-a // b))  # rounded towards zero
    return quotient([a], [b])


def _remainder(a: Dim, b: Dim) -> Dim:
    # Of negative numbers the attribute `fmod` decides: not worth it.
    return a % b if isinstance(a, int) and isinstance(b, int) and a >= 0 and b > 0 else None


def _equal(a: Dim, b: Dim) -> Dim:
    if a is not None and a == b:
        return 1
    # A size is never negative, whatever its name stands for.
    sure = (isinstance(a, int) and isinstance(b, int)) or any(isinstance(d, int) and d < 0 for d in (a, b))
    return 0 if sure and a is not None and b is not None else None


def _where(condition: Dim, a: Dim, b: Dim) -> Dim:
    return None if condition is None else (a if condition else b)


COPIES = frozenset({"Unsqueeze", "Squeeze", "Cast", "Identity", "Reshape", "Flatten"})
PICKS: dict[str, Callable[..., Content | None]] = {"Gather": _gather, "Slice": _slice}
EACH: dict[str, Callable[..., Dim]] = {
    "Add": _numbers(lambda a, b: a + b),
    "Sub": _numbers(lambda a, b: a - b),
    "Max": _of_any_number(max),
    "Min": _of_any_number(min),
    "Mul": _times,
    "Div": _divided,
    "Mod": _remainder,
    "Equal": _equal,
    "Where": _where,
}


# ----- Products of sizes -----


def product(sizes: Sequence[Dim]) -> Dim:
    """Multiply sizes; None where the result is neither a number nor `4*name`."""
    return quotient(sizes, [])


def quotient(sizes: Sequence[Dim], by: Sequence[Dim]) -> Dim:
    """Divide one product of sizes by another; None where the result is neither a number nor `4*name`."""
    if None in sizes or None in by:
        return None
    above, below = ([factor(d) for d in side if d is not None] for side in (sizes, by))
    names = [name for _, name in above if name]
    for _, name in below:
        if name and name not in names:
            return None
        if name:
            names.remove(name)
    count, divisor = math.prod(n for n, _ in above), math.prod(n for n, _ in below)
    if len(names) > 1 or divisor <= 0 or count <= 0 or count % divisor:
        return None
    count //= divisor
    return count if not names else names[0] if count == 1 else f"{count}*{names[0]}"


def factor(dim: int | str) -> tuple[int, str]:
    """Part `4*name` into 4 and `name`; a number has no name."""
    if isinstance(dim, int):
        return dim, ""
    number, star, name = dim.partition("*")
    return (int(number), name) if star and number.isdigit() else (1, dim)
