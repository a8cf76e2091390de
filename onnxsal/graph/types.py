"""What is known of a value before it runs: its type and shape, in onnx_ir's terms and in ONNX's."""

import numpy as np
import onnx
import onnx_ir as ir

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

UNINFERRED = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators that ONNX infers no shape for: it is their first input's."""

Dim = int | str | None


def is_float(value: ir.Value) -> bool:
    """Tell whether `value` is a tensor of a type that has gradients. Unknown types count as float."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return False
    return value.dtype is None or value.dtype in FLOATS


def has_gradient(value: ir.Value) -> bool:
    """Tell whether `value` is a float tensor, or a sequence of them, or may hold either."""
    kind = value.type
    while isinstance(kind, ir.SequenceType | ir.OptionalType):
        kind = kind.elem_type
    return kind is None or (isinstance(kind, ir.TensorType) and kind.dtype in FLOATS)


def is_sequence(value: ir.Value) -> bool:
    """Tell whether `value` is a sequence of tensors."""
    return isinstance(value.type, ir.SequenceType)


def dims(value: ir.Value) -> tuple[Dim, ...] | None:
    """Return the shape as numbers, names, and None where nothing is known; None if not even the rank is."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """Return the shape if every dimension is a number, else None."""
    shape = dims(value)
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return tuple(d for d in shape if isinstance(d, int))


def same_dim(a: Dim, b: Dim) -> bool:
    """Tell whether two dimensions are surely equal. Two unknown ones are not."""
    return a is not None and a == b


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Tell whether two values surely have the same shape."""
    left, right = dims(a), dims(b)
    if left is None or right is None or len(left) != len(right):
        return False
    return all(same_dim(p, q) for p, q in zip(left, right, strict=True))


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer, or None where the value is only known at run time.

    An initializer that is also a graph input can be overridden by the caller, so it is not constant.
    """
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def type_proto(value: ir.Value) -> onnx.TypeProto:
    """Write what is known of a value as an ONNX type."""
    proto = onnx.TypeProto()
    if value.type is not None:
        ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def annotate(value: ir.Value, proto: onnx.TypeProto) -> None:
    """Write an inferred ONNX type onto a value."""
    typed = ir.serde.deserialize_type_proto_for_type(proto)
    if typed is not None:
        value.type = typed
    value.shape = ir.serde.deserialize_type_proto_for_shape(proto)
