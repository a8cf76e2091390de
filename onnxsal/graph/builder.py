"""Write nodes as ordinary calls: `op.Conv(x, w, strides=[2, 2])`.

The builder appends to one graph. It knows type and shape of each value it makes at once (rules ask
for them), hands out the same value for the same expression twice, and names what it adds after what
it belongs to, so that the graph can be read in a viewer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from onnxsal.errors import UnsupportedModel
from onnxsal.graph.contents import quotient
from onnxsal.graph.flow import subgraphs
from onnxsal.graph.pads import pad_all_axes
from onnxsal.graph.types import Dim, annotate, constant, dims, static_shape, type_proto

T = TypeVar("T")

# Integer constants up to this many elements (shapes, axes, pads) take part in shape inference.
SMALL = 64


Spelling = Callable[["Op", list[ir.Value | None], dict[str, Any], int], Any]
"""How an operator is written where a runtime lacks it: from inputs and attributes to what `emit` returns, or None
where the operator itself will do."""


@dataclass(frozen=True)
class Runtime:
    """What a graph is written for.

    Attributes:
        spellings: What is written in place of operators that it lacks, by their names.
        blocks: Whether it computes convolutions on blocks of channels, as ONNX Runtime does on a CPU. There what is
            next to a convolution had better be one, too, and one that picks entries gives these to the last bit.
    """

    spellings: Mapping[str, Spelling] = field(default_factory=dict)
    blocks: bool = False


class Op:
    """Emits nodes at the end of a graph.

    Calls take the operator's inputs in order, or by formal name; whatever else is named is an
    attribute. Numbers, lists and arrays stand for constants; their type is that of the other
    inputs of the same type variable. `outputs=2` asks for more than the first output.

    Attributes:
        graph: The graph written to.
        opset: Version of `ai.onnx` to write.
        ir_version: The model's.
        runtime: What is written for; that of `outer` within a subgraph.
        refused: What could not be written that way so far, and why.
    """

    def __init__(
        self,
        graph: ir.Graph,
        opset: int,
        ir_version: int = 10,
        *,
        outer: "Op | None" = None,
        runtime: Runtime | None = None,
    ) -> None:
        """Start to write at the end of `graph`, which may be a subgraph of what `outer` writes."""
        self.graph = graph
        self.opset = opset
        self.ir_version = ir_version
        self._scope = "onnxsal"
        self._memo: dict[Any, Any] = {}
        self._names = set(_all_names(graph))
        self._counts: dict[str, int] = {}
        self._outer = outer
        self.runtime = runtime or Runtime()
        self.refused: list[str] = []
        if outer is not None:
            self.runtime, self.refused = outer.runtime, outer.refused
            self._scope, self._names, self._counts = outer._scope, outer._names, outer._counts

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        """Return what emits a node of `op_type`; with `outputs=2` it returns a tuple, whatever the type says."""
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return partial(self.emit, op_type)

    @property
    def scope_name(self) -> str:
        """What the nodes emitted now are named after."""
        return self._scope

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Name what is emitted within after `name`."""
        outer, self._scope = self._scope, name
        try:
            yield
        finally:
            self._scope = outer

    # ----- Nodes -----

    def emit(self, op_type: str, *args: Any, outputs: int = 1, **named: Any) -> Any:
        """Append a node and return its output, or a tuple of them if `outputs` is above 1."""
        schema = _schema(op_type, self.opset)
        inputs, attributes = self._bind(schema, args, named)
        inputs = pad_all_axes(self, inputs) if op_type == "Pad" else inputs
        spell = self.runtime.spellings.get(op_type)
        made = spell(self, inputs, attributes, outputs) if spell is not None else None
        return self.emit_as_is(op_type, inputs, attributes, outputs) if made is None else made

    def emit_as_is(
        self, op_type: str, inputs: list[ir.Value | None], attributes: dict[str, Any], outputs: int = 1
    ) -> Any:
        """Do what `emit` does, whatever the operator's spelling."""
        key = (op_type, outputs, tuple(id(v) for v in inputs), _frozen(attributes))
        if key not in self._memo:
            self._memo[key] = self._append(_schema(op_type, self.opset), inputs, attributes, outputs)
        made: tuple[ir.Value, ...] = self._memo[key]
        return made[0] if outputs == 1 else made

    def refuse(self, op_type: str, why: str) -> None:
        """Note that an operator has no other spelling here, for whoever asked for one to report."""
        self.refused.append(f"{op_type} for {self._scope!r} ({why})")

    def check_spellings(self) -> None:
        """Raise if anything could not be written in the operators that the spellings stand for.

        Raises:
            UnsupportedModel: Lists all of it.
        """
        if self.refused:
            raise UnsupportedModel(
                f"this cannot be written for browsers, which lack {'; '.join(dict.fromkeys(self.refused))}: write it "
                f"for the native runtime, or explain a layer behind that"
            )

    def _bind(
        self, schema: onnx.defs.OpSchema, args: Sequence[Any], named: dict[str, Any]
    ) -> tuple[list[ir.Value | None], dict[str, Any]]:
        """Sort arguments into inputs, in the schema's order, and attributes."""
        formals = [p.name for p in schema.inputs]
        given: list[Any] = list(args)
        for name in [n for n in named if n in formals and n not in schema.attributes]:
            at = formals.index(name)
            given += [None] * (at + 1 - len(given))
            given[at] = named.pop(name)
        while given and given[-1] is None:
            given.pop()
        types: dict[str, ir.DataType | None] = {}
        for i, value in enumerate(given):
            if isinstance(value, ir.Value):
                types.setdefault(_formal(schema, i).type_str, value.dtype)
        inputs = [self._as_value(v, types.get(_formal(schema, i).type_str)) for i, v in enumerate(given)]
        return inputs, {k: v for k, v in named.items() if v is not None}

    def _as_value(self, value: Any, dtype: ir.DataType | None) -> ir.Value | None:
        if value is None or isinstance(value, ir.Value):
            return value
        return self.const(value, dtype)

    def _append(
        self, schema: onnx.defs.OpSchema, inputs: list[ir.Value | None], attributes: dict[str, Any], outputs: int
    ) -> tuple[ir.Value, ...]:
        name = self.fresh(f"{self._scope}/{schema.name}")
        results = [ir.Value(name=name if i == 0 else self.fresh(f"{name}_{i}")) for i in range(outputs)]
        attrs = [_attribute(schema, k, v) for k, v in attributes.items()]
        node = ir.Node("", schema.name, inputs, attrs, outputs=results, name=name)
        self.graph.append(node)
        self._infer(schema, node)
        return tuple(results)

    def _infer(self, schema: onnx.defs.OpSchema, node: ir.Node) -> None:
        """Give the new node's outputs their type and shape, by ONNX's own inference."""
        known = [v for v in node.inputs if v is not None]
        data = {str(v.name): _tensor_proto(v) for v in known if _is_small_int(v)}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema,
                ir.serde.serialize_node(node),
                {str(v.name): type_proto(v) for v in known},
                data,
                opset_imports=[onnx.helper.make_opsetid("", self.opset)],
                ir_version=self.ir_version,
            )
        except onnx.shape_inference.InferenceError as error:
            raise AssertionError(f"{node.op_type} {node.name!r} is ill-formed: {error}; inputs {known}") from error
        for value in node.outputs:
            if value.name in found:
                annotate(value, found[value.name])

    def adopt(self, node: ir.Node) -> None:
        """Append a node of standard operators that was made elsewhere; names that are taken get a number."""
        node.name = self.fresh(node.name or node.op_type)
        for value in node.outputs:
            value.name = self.fresh(value.name or node.name)
        self.graph.append(node)
        self._infer(onnx.defs.get_schema(node.op_type, self.opset, ""), node)

    def once(self, make: Callable[["Op"], T]) -> T:
        """Return `make(op)`, made once for this graph: what is found out about all of it."""
        key = ("once", make)
        if key not in self._memo:
            self._memo[key] = make(self)
        found: T = self._memo[key]
        return found

    def within(self, body: ir.Graph) -> "Op":
        """Return the builder of a body of this graph, one for each."""
        key = ("within", id(body))
        if key not in self._memo:
            self._memo[key] = Op(body, self.opset, self.ir_version, outer=self)
        found: Op = self._memo[key]
        return found

    def Reshape(self, data: ir.Value, shape: Any, allowzero: int | None = None) -> ir.Value:
        """Emit Reshape, with the number in the place of -1 where that is known.

        Beside a size that turns out to be zero, as that of a batch may, -1 could be anything, so runtimes refuse it.
        """
        told = constant(shape) if isinstance(shape, ir.Value) else np.asarray(shape)
        before = dims(data)
        if told is None or before is None or -1 not in told:
            made: ir.Value = self.emit("Reshape", data, shape, allowzero=allowzero)
            return made
        sizes = [before[i] if d == 0 and not allowzero else int(d) for i, d in enumerate(told)]
        rest = _rest(before, [d for d in sizes if d != -1])
        target = np.where(told == -1, rest, told) if isinstance(rest, int) else shape
        if rest == 0 and all(isinstance(d, int) for d in sizes):
            # Written as a number, none means "as before" unless told otherwise.
            target, allowzero = np.array([rest if d == -1 else d for d in sizes]), 1
        if not isinstance(rest, int) and not allowzero and (counted := self._counted(data, told)) is not None:
            target, allowzero = counted, 1
        elif rest is None and None in sizes:
            # ONNX's inference takes a zero that copies a size without a name for a size of zero.
            target = self.Concat(
                *(self.dim(data, i) if d == 0 else self.const([d]) for i, d in enumerate(told)), axis=0
            )
        made = self.emit("Reshape", data, target, allowzero=allowzero)
        # ONNX's inference does not count in names.
        made.shape = ir.Shape([rest if d == -1 else d for d in sizes])
        return made

    def _counted(self, data: ir.Value, told: np.ndarray[Any, Any]) -> ir.Value | None:
        """Return a shape with the number in the place of -1 that the run counts, where sizes before it may be zero.

        It starts with zeros, "as before"; else None.
        """
        kept = int(np.argmax(told != 0))
        if kept == 0 or 0 in told[kept:]:
            return None
        entries = self.ReduceProd(self.Shape(data, start=kept), keepdims=1)
        others = -int(np.prod(told[kept:]))
        rest = entries if others == 1 else self.Div(entries, self.const([others]))
        at = int(np.argmax(told == -1))
        parts = [self.Shape(data, start=0, end=kept), self.const(told[kept:at]), rest, self.const(told[at + 1 :])]
        shape: ir.Value = self.Concat(*(part for part in parts if static_shape(part) != (0,)), axis=0)
        return shape

    # ----- Constants -----

    def const(self, value: Any, dtype: ir.DataType | None = None) -> ir.Value:
        """Return an initializer that holds `value`; integers are int64, numbers float32, unless `dtype` says.

        It stands in the outermost graph, where subgraphs see it.
        """
        if self._outer is not None:
            return self._outer.const(value, dtype)
        array = np.asarray(value)
        if dtype is None:
            dtype = ir.DataType.INT64 if array.dtype.kind in "iu" or array.size == 0 else None
            dtype = dtype or (ir.DataType.BOOL if array.dtype.kind == "b" else ir.DataType.FLOAT)
        array = array.astype(dtype.numpy())
        key = ("const", dtype, array.shape, array.tobytes())
        if key not in self._memo:
            tensor = ir.Tensor(array, dtype=dtype, name=self.fresh("onnxsal/const"))
            made = ir.Value(
                name=tensor.name, const_value=tensor, type=ir.TensorType(dtype), shape=ir.Shape(array.shape)
            )
            self.graph.register_initializer(made)
            self._memo[key] = made
        found: ir.Value = self._memo[key]
        return found

    def hold(self, weight: ir.Value) -> None:
        """Register an initializer in the outermost graph, where subgraphs see it."""
        if self._outer is not None:
            self._outer.hold(weight)
        else:
            self.graph.register_initializer(weight)

    def scalar(self, value: float, *, like: ir.Value) -> ir.Value:
        """Return a rank-0 constant of the type of `like`."""
        return self.const(value, like.dtype)

    # ----- Shapes -----

    def shape(self, value: ir.Value) -> ir.Value:
        """Return the shape as int64 (rank,): a constant where it is known."""
        known = static_shape(value)
        return self.const(np.array(known, np.int64)) if known is not None else self.Shape(value)

    def dim(self, value: ir.Value, axis: int) -> ir.Value:
        """Return one dimension as int64 (1,): a constant where it is known."""
        axis %= rank(value)
        size = (dims(value) or ())[axis]
        return self.const([size]) if isinstance(size, int) else self.Shape(value, start=axis, end=axis + 1)

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Return zeros of the shape and type of `value`."""
        return self.Expand(self.scalar(0, like=value), self.shape(value))

    def reshape_like(self, value: ir.Value, other: ir.Value) -> ir.Value:
        """Return `value` in the shape of `other`, which has as many elements."""
        shape = dims(other)
        unknown = [d for d in shape if not isinstance(d, int)] if shape is not None else [None, None]
        if shape is not None and len(unknown) <= 1 and 0 not in shape:
            target = self.const(np.array([d if isinstance(d, int) else -1 for d in shape], np.int64))
        else:
            target = self.Shape(other)
        # allowzero: a dimension of zero means zero, not "as before".
        made = self.Reshape(value, target, allowzero=None if target.const_value is not None else 1)
        if shape is not None:
            made.shape = other.shape
        return made

    def cast(self, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        """Return `value` as `dtype`; itself if it is that already."""
        assert dtype is not None
        return value if value.dtype == dtype else self.Cast(value, to=dtype)

    # ----- Names -----

    def fresh(self, name: str) -> str:
        """Return `name`, with a number behind it if the graph has it already."""
        while name in self._names:
            self._counts[name] = self._counts.get(name, 0) + 1
            candidate = f"{name}_{self._counts[name]}"
            if candidate not in self._names:
                name = candidate
        self._names.add(name)
        return name

    def rename(self, value: ir.Value, name: str) -> ir.Value:
        """Give a value that the builder made a name of its own, `name` if nobody has it."""
        value.name = self.fresh(name)
        return value


def rank(value: ir.Value) -> int:
    """Return the number of axes of a value.

    Raises:
        UnsupportedModel: It is known at run time only, as behind operators that ONNX has no shape inference for.
    """
    if value.shape is None:
        raise UnsupportedModel(
            f"the number of axes of {value.name!r} is not known before the run, and its gradient needs it: "
            f"export the model with fixed ranks, or explain a layer behind that"
        )
    return len(value.shape)


@cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op_type, opset, "")


def _formal(schema: onnx.defs.OpSchema, index: int) -> Any:
    """Return the schema's parameter for input `index`; the last is repeated where it is variadic."""
    return schema.inputs[min(index, len(schema.inputs) - 1)]


def _rest(sizes: Sequence[Dim], by: Sequence[Dim]) -> Dim:
    """Divide one product of sizes by another, in which zeros cancel each other, too."""
    above, below = ([d if d != 0 else "zero" for d in side] for side in (sizes, by))
    found = quotient(above, below)
    return 0 if isinstance(found, str) and found.endswith("zero") else found


def _attribute(schema: onnx.defs.OpSchema, name: str, value: Any) -> ir.Attr:
    """Return an attribute of the type that the schema says; onnx_ir would find it out ten times slower."""
    kind = ir.AttributeType(schema.attributes[name].type.value)  # type: ignore[attr-defined]  # a stub lacks it
    if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        value = tuple(value)
    if kind in (ir.AttributeType.TENSOR, ir.AttributeType.GRAPH):
        return ir.convenience.convert_attribute(name, value)
    if kind == ir.AttributeType.INT:
        value = int(value)
    return ir.Attr(name, kind, float(value) if kind == ir.AttributeType.FLOAT else value)


def _frozen(attributes: dict[str, Any]) -> Any:
    return tuple(sorted((k, repr(v)) for k, v in attributes.items()))


def _is_small_int(value: ir.Value) -> bool:
    if value.const_value is None or value.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return False
    return value.const_value.size <= SMALL


def _tensor_proto(value: ir.Value) -> onnx.TensorProto:
    array = constant(value)
    assert array is not None
    return onnx.numpy_helper.from_array(array, value.name)


def _all_names(graph: ir.Graph) -> Iterator[str | None]:
    """Yield the names of values and of nodes: ONNX Runtime wants each to be unique."""
    yield from (v.name for v in graph.inputs)
    yield from graph.initializers
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield node.name
        yield from (v.name for v in node.outputs)
        for inner in subgraphs(node):
            yield from (v.name for v in inner.inputs)
            yield from inner.initializers
