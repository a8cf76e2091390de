"""Concrete shapes of every value, once the inputs' sizes are decided.

The canonical form keeps what is unknown symbolic. Some questions (where does this token lie on the
image?) only have an answer for one input size, so this walks the graph with numbers for all
dimensions, and computes the small integer values on the way (a shape, an index, a padding) that
decide the shape of others.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from onnxsal.graph.evaluation import evaluate
from onnxsal.graph.expansions import Expanded, expand, is_foreign
from onnxsal.graph.types import UNINFERRED, dims, type_proto

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]

# Elements up to which a value is computed: integers steer shapes, floats are at most the scales of a Resize.
MOST_INTEGERS, MOST_FLOATS = 1 << 16, 64


class Shapes:
    """The shape of every value that could be found, and the contents of the small ones."""

    def __init__(self, model: ir.Model, sizes: Mapping[str, Sequence[int]], *, declared: bool = True) -> None:
        """Start at the inputs of a model in canonical form; `walk`, or `add` node by node, goes on.

        Args:
            model: The model; it is left as it is.
            sizes: The shape of each graph input.
            declared: Believe the shapes that the values carry where `sizes` settles them. False
                infers each node anew, which is needed when `sizes` contradicts the model's own.
        """
        self._graph = model.graph
        self._opset = model.opset_imports.get("", 21)
        self._declared = declared
        self._symbols: dict[str, int] = {}
        self._shapes: dict[ir.Value, Shape] = {}
        self._arrays: dict[ir.Value, Array] = {}
        self._types: dict[ir.Value, ir.DataType] = {}
        self._sequences: dict[ir.Value, onnx.TypeProto] = {}
        self._computed: dict[Any, list[Array]] = {}
        self._expanded: dict[ir.Node, Expanded] = {}
        for value in model.graph.inputs:
            name = str(value.name)
            if name in sizes:
                self._decide(value, tuple(int(n) for n in sizes[name]))

    def walk(self) -> "Shapes":
        """Take in every node of the graph."""
        for node in self._graph:
            self.add(node)
        return self

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Return the shape, or None where it could not be found."""
        if value is not None and value not in self._shapes and value.const_value is not None:
            self._shapes[value] = tuple(value.const_value.shape.numpy())
        return None if value is None else self._shapes.get(value)

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Return the element type, which ONNX Runtime's own operators do not tell the canonical form."""
        return value.dtype or self._types.get(value)

    def array(self, value: ir.Value | None) -> Array | None:
        """Return the contents if they follow from the sizes and are small, else None.

        An initializer that a caller could override (up to IR 3 that is every one) counts as what it holds.
        """
        if value is None:
            return None
        held = value.const_value
        if value not in self._arrays and held is not None and held.size <= MOST_INTEGERS:
            array = held.numpy()
            if not _small(array):
                return None
            self._arrays[value] = array
        return self._arrays.get(value)

    def expansion(self, node: ir.Node) -> Expanded | None:
        """Return what an operator that ONNX does not define computes, once its shapes are found; None for others."""
        return self._expanded.get(node)

    def add(self, node: ir.Node) -> None:
        """Find what follows about the outputs of `node` from its inputs."""
        expanded = expand(node) if is_foreign(node) else None
        if expanded is None:
            self._add(node)
            return
        self._expanded[node] = expanded
        for made in expanded.nodes:
            self._add(made)
        for value, twin in zip(node.outputs, expanded.outputs, strict=True):
            declared = self._from_declaration(value) if self._declared else None
            if (shape := declared or self.shape(twin)) is not None:
                self._shapes[value] = shape
            if twin is not None and (dtype := self.dtype(twin)) is not None:
                self._types[value] = dtype

    def _add(self, node: ir.Node) -> None:
        found = [self._from_declaration(v) for v in node.outputs] if self._declared else [None]
        if any(shape is None for shape in found):
            found = self._infer(node)
        for value, shape in zip(node.outputs, found, strict=False):
            if shape is not None:
                self._shapes[value] = shape
        for value, array in zip(node.outputs, self._compute(node), strict=False):
            self._shapes[value] = array.shape
            if _small(array):
                self._arrays[value] = array

    def _decide(self, value: ir.Value, shape: Shape) -> None:
        self._shapes[value] = shape
        known = dims(value) or ()
        self._symbols |= {d: n for d, n in zip(known, shape, strict=True) if isinstance(d, str)}

    def _from_declaration(self, value: ir.Value) -> Shape | None:
        known = dims(value)
        if known is None:
            return None
        numbers = [d if isinstance(d, int) else self._symbols.get(d or "") for d in known]
        return None if None in numbers else tuple(n for n in numbers if n is not None)

    # ----- Contents -----

    def _compute(self, node: ir.Node) -> list[Array]:
        """Return the outputs of `node` if its inputs are known and these are small, else nothing."""
        if node.op_type == "Shape" and node.domain == "" and (shape := self.shape(node.inputs[0])) is not None:
            part = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape)))
            return [np.array(shape[part], np.int64)]
        arrays = [self.array(v) for v in node.inputs]
        known = [a is not None or v is None for v, a in zip(node.inputs, arrays, strict=True)]
        if all(a is None for a in arrays) or not all(known) or node.domain != "" or not _deterministic(node):
            return []
        # A few numbers can say how large an array of weights to fill.
        if any((shape := self.shape(v)) is not None and prod(shape) > MOST_INTEGERS for v in node.outputs):
            return []
        contents = [None if a is None else (a.dtype, a.shape, a.tobytes()) for a in arrays]
        key = (node.op_type, repr(sorted(node.attributes.items())), len(node.outputs), *contents)
        if key not in self._computed:
            # Where the evaluator cannot, the value is simply not known.
            self._computed[key] = evaluate(node, arrays, self._opset) or []
        return self._computed[key]

    # ----- Inference -----

    def _infer(self, node: ir.Node) -> list[Shape | None]:
        if node.op_type in UNINFERRED and node.domain == "":
            return [self.shape(node.inputs[0])]
        schema = _schema(node.op_type, self._opset, node.domain)
        known = [v for v in node.inputs if v is not None]
        types = {str(v.name): kind for v in known if (kind := self._type(v)) is not None}
        if schema is None or len(types) < len({v.name for v in known}):
            return []
        data = {str(v.name): onnx.numpy_helper.from_array(a) for v in known if (a := self.array(v)) is not None}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema,
                ir.serde.serialize_node(node),
                types,
                data,
                opset_imports=[onnx.helper.make_opsetid(node.domain, self._opset)],
            )
        except onnx.shape_inference.InferenceError:
            return []  # these sizes do not fit the model here; whoever asks finds no shape
        return [self._read(v, found.get(str(v.name))) for v in node.outputs]

    def _type(self, value: ir.Value) -> onnx.TypeProto | None:
        dtype = self.dtype(value)
        if dtype is None:
            return None
        if not isinstance(value.type, ir.TensorType | None):
            return self._sequences.get(value) or type_proto(value)
        return onnx.helper.make_tensor_type_proto(int(dtype), self.shape(value))

    def _read(self, value: ir.Value, proto: onnx.TypeProto | None) -> Shape | None:
        if proto is None or not proto.HasField("tensor_type"):
            if proto is not None:
                self._sequences[value] = proto  # it has no shape, but its entries have
            return None
        if proto.tensor_type.elem_type:
            self._types[value] = ir.DataType(proto.tensor_type.elem_type)
        sizes = proto.tensor_type.shape.dim
        if not proto.tensor_type.HasField("shape") or any(not d.HasField("dim_value") for d in sizes):
            return None
        return tuple(d.dim_value for d in sizes)


@cache
def _schema(op_type: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _small(array: Array) -> bool:
    return array.size <= (MOST_FLOATS if array.dtype.kind == "f" else MOST_INTEGERS)


def _deterministic(node: ir.Node) -> bool:
    """Exclude what is random, or holds graphs of its own."""
    graphs = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return not graphs and not node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))
