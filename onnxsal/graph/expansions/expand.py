"""Expansions: an operator of ONNX Runtime's own, or one on quantised numbers, in standard float operators.

The forward pass keeps the file's own kernels. Expansions serve whoever has to know what they compute:
shape inference, which knows standard operators only, and the gradient, which is that of the expansion.
A quantised operator is the float one between DequantizeLinear and QuantizeLinear.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

Expansion = Callable[["Writer", "Composite"], Any]

_TABLE: dict[tuple[str, str], Expansion] = {}


def expansion(*op_types: str, domain: str = "com.microsoft") -> Callable[[Expansion], Expansion]:
    """Register a function that writes what these operators compute; it returns their outputs, or None."""

    def register(function: Expansion) -> Expansion:
        _TABLE.update({(domain, op_type): function for op_type in op_types})
        return function

    return register


def expandable() -> list[tuple[str, str]]:
    """Return domain and name of the operators that have an expansion."""
    return sorted(_TABLE)


@dataclass(frozen=True)
class Expanded:
    """What one operator computes.

    Attributes:
        nodes: Standard nodes in topological order, their values without types. They read the operator's
            own inputs.
        weights: Constants among their inputs.
        outputs: What stands for the operator's outputs; None for those that are not written, or left out.
    """

    nodes: list[ir.Node]
    weights: list[ir.Value]
    outputs: list[ir.Value | None]


def expand(node: ir.Node) -> Expanded | None:
    """Return what a composite operator computes; None for standard operators, and forms that are not written."""
    function = _TABLE.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
    if function is None:
        return None
    writer = Writer(node.name or node.outputs[0].name or node.op_type)
    made = function(writer, Composite(node))
    if made is None:
        return None
    outputs: list[ir.Value | None] = [made] if isinstance(made, ir.Value) else list(made)
    outputs += [None] * (len(node.outputs) - len(outputs))
    read = [v if own.name else None for v, own in zip(outputs, node.outputs, strict=False)]
    return Expanded(writer.nodes, writer.weights, read)


def is_foreign(node: ir.Node) -> bool:
    """Tell whether ONNX does not define an operator that is written here; ONNX Runtime has some in ONNX's name."""
    return node.domain not in ("", "ai.onnx") or node.op_type == "SimplifiedLayerNormalization"


class Composite:
    """The operator to be expanded: inputs by position, attributes by name."""

    def __init__(self, node: ir.Node) -> None:
        """Read `node`."""
        self.node = node

    def __getitem__(self, index: int) -> ir.Value | None:
        """Return an input; None where it is left out."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None or value.name == "" else value

    def __len__(self) -> int:
        """Return how many inputs are written, those left out in between included."""
        return len(self.node.inputs)

    def wants(self, index: int) -> bool:
        """Tell whether anybody reads an output."""
        outputs = self.node.outputs
        return index < len(outputs) and bool(outputs[index].name)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a Python value."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def attributes(self, *names: str) -> dict[str, Any]:
        """Return those of the attributes that the node has."""
        return {n: self.node.attributes[n].value for n in names if n in self.node.attributes}


@dataclass
class Writer:
    """Collects nodes: `w.Conv(x, weight, strides=[2, 2])`. Nothing is known of the values that it makes.

    Attributes:
        name: What the nodes are named after.
    """

    name: str
    nodes: list[ir.Node] = field(default_factory=list)
    weights: list[ir.Value] = field(default_factory=list)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """Return what writes a node of `op_type`."""
        if not op_type[:1].isupper():
            raise AttributeError(op_type)
        return partial(self.emit, op_type)

    def emit(self, op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Write a node; return its output, or a tuple of several. Lists among the inputs are int64 constants."""
        values = [self.integers(v) if isinstance(v, list) else v for v in inputs]
        while values and values[-1] is None:
            values.pop()
        given = {k: v for k, v in attributes.items() if v is not None}
        name = f"{self.name}/{op_type}_{len(self.nodes)}"
        made = [ir.Value(name=name if i == 0 else f"{name}_{i}") for i in range(outputs)]
        attrs = ir.convenience.convert_attributes(given)
        self.nodes.append(ir.Node("", op_type, values, attrs, outputs=made, name=name))
        return made[0] if outputs == 1 else tuple(made)

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return int64 constants."""
        return self.constant(np.array(numbers, np.int64), ir.DataType.INT64)

    def number(self, number: float, like: ir.Value) -> ir.Value:
        """Return a constant of the type of another value, which may not be known yet."""
        if like.dtype is None:
            return self.cast_like(self.constant(np.array(number, np.float32), ir.DataType.FLOAT), like)
        return self.constant(np.array(number, like.dtype.numpy()), like.dtype)

    def cast_like(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """Return a value in the type of another, which may not be known yet."""
        known = like.dtype is not None
        made: ir.Value = self.Cast(value, to=like.dtype) if known else self.CastLike(value, like)
        return made

    def constant(self, array: np.ndarray[Any, Any], dtype: ir.DataType) -> ir.Value:
        """Return a constant."""
        return self.hold(ir.Tensor(array, dtype=dtype))

    def hold(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return a tensor as a constant."""
        tensor.name = f"{self.name}/const_{len(self.weights)}"
        value = ir.Value(
            name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy())
        )
        self.weights.append(value)
        return value
