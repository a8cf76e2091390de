"""A node as a rule sees it: inputs, outputs and attributes by the operator page's own names."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir

from onnxsal.autodiff.primal import Primal
from onnxsal.graph.builder import Op
from onnxsal.graph.quantisation import Quantisation
from onnxsal.graph.types import HALVES, constant, static_shape

T = TypeVar("T")


class NodeView:
    """One primal node, read by formal names: `node.X`, `node.W`, `node.Y`, `node.attrs["strides"]`.

    Half-precision values come as float32 (a Cast stands in the graph, if a rule uses them): small
    gradients vanish in float16. Integers that stand for real numbers come as these, in float32; `raw` has
    them as they are. An optional input that is absent is None.
    """

    def __init__(
        self,
        op: Op,
        node: ir.Node,
        cotangents: Sequence[ir.Value | None] = (),
        *,
        keep_half: bool = False,
        cut: Callable[[ir.Value], ir.Value] | None = None,
    ) -> None:
        """See `node`, whose outputs have the given cotangents, through `op`; of its values what `cut` returns."""
        self._op = op
        self._node = node
        self._primal = op.once(Primal)
        self._cotangents = cotangents
        self._keep_half = keep_half
        self._cut = cut
        self._made: dict[Any, Any] = {}
        self._schema = schema_of(op, node)

    @property
    def op_type(self) -> str:
        """The operator."""
        return self._node.op_type

    @property
    def name(self) -> str:
        """The node's name, or that of its first output."""
        return self._primal.name(self._node)

    @cached_property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes as Python values, defaults filled in; usable as keyword arguments of `op`."""
        defaults = self._schema.attributes.items() if self._schema else ()
        values = {k: onnx.helper.get_attribute_value(a.default_value) for k, a in defaults if a.default_value.name}
        return {k: _plain(v) for k, v in (values | {k: a.value for k, a in self._node.attributes.items()}).items()}

    @property
    def inputs(self) -> list[ir.Value | None]:
        """All inputs, in order."""
        return [self._compute(v) for v in self._node.inputs]

    @property
    def outputs(self) -> list[ir.Value]:
        """All outputs, in order."""
        return [v for v in map(self._compute, self._node.outputs) if v is not None]

    def formal(self, index: int) -> str:
        """Return the formal name of input `index`."""
        return formal_name(self._schema, index)

    def has(self, formal: str) -> bool:
        """Tell whether an input or output is there and used."""
        return self._find(formal) is not None

    def const(self, formal: str) -> np.ndarray | None:
        """Return the array of a constant input, or None where it is absent or known at run time only."""
        return constant(self._find(formal))

    def raw(self, formal: str) -> ir.Value | None:
        """Return an input or output in its own type; None if it is absent."""
        value = self._find(formal)
        return None if value is None else self._primal.original(value)

    def gradient_type(self, formal: str) -> ir.DataType | None:
        """Return the type of an input's cotangent."""
        value = self._find(formal)
        return None if value is None else self._primal.gradient_type(value, keep_half=self._keep_half)

    @property
    def is_spared(self) -> bool:
        """Whether this is a quantisation of the score itself, which is explained as if it never saturated."""
        return self._primal.is_spared(self._node)

    def quantisation(self, formal: str) -> Quantisation | None:
        """Return how an input or output of integers stands for real numbers; None if it does not."""
        value = self._find(formal)
        return None if value is None else self._primal.quantisation(value)

    def shape(self, formal: str) -> tuple[int, ...] | None:
        """Return the shape of an input or output if all of it is known, else None."""
        value = self._find(formal)
        return None if value is None else static_shape(value)

    def g(self, formal: str) -> ir.Value | None:
        """Return the cotangent of an output by its formal name; None if none arrives."""
        names = [p.name for p in self._schema.outputs] if self._schema else []
        index = names.index(formal)
        return self._cotangents[index] if index < len(self._cotangents) else None

    def readers(self, formal: str) -> set[str]:
        """Return the operators of the model that read an output, be it through Cast or Identity."""
        found: set[str] = set()
        values = [v] if (v := self._find(formal)) is not None else []
        while values:
            nodes = [use.node for use in values.pop().uses()]
            found |= {n.op_type for n in nodes}
            values += [n.outputs[0] for n in nodes if n.op_type in ("Cast", "Identity")]
        return found

    def once(self, make: Callable[[Op, "NodeView"], T]) -> T:
        """Return `make(op, node)`, made once: what the rules of several inputs share."""
        if make not in self._made:
            self._made[make] = make(self._op, self)
        found: T = self._made[make]
        return found

    def __getattr__(self, formal: str) -> ir.Value | None:
        """Return an input or output by its formal name; None if it is absent."""
        if formal.startswith("__"):
            raise AttributeError(formal)
        return self._compute(self._find(formal))

    def _find(self, formal: str) -> ir.Value | None:
        schema = self._schema
        if schema is None:
            raise AttributeError(f"{self.op_type} has no schema, so no {formal!r}: use `inputs` and `outputs`")
        for parameters, values in ((schema.inputs, self._node.inputs), (schema.outputs, self._node.outputs)):
            for index, parameter in enumerate(parameters):
                if parameter.name == formal:
                    return values[index] if index < len(values) and _used(values[index]) else None
        names = [p.name for p in schema.inputs], [p.name for p in schema.outputs]
        raise AttributeError(f"{self.op_type} has no {formal!r}; its inputs are {names[0]}, its outputs {names[1]}")

    def _compute(self, value: ir.Value | None) -> ir.Value | None:
        """Return the value in the type that gradients are computed in."""
        if value is None:
            return None
        value = self._primal.read(value)
        if not self._keep_half and value.dtype in HALVES and isinstance(value.type, ir.TensorType):
            value = self._op.cast(value, ir.DataType.FLOAT)
        return value if self._cut is None else self._cut(value)


def schema_of(op: Op, node: ir.Node) -> onnx.defs.OpSchema | None:
    """Return the schema of a node's operator; None for operators that ONNX does not define."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, *([domain] if domain else [op.opset, ""]))
    except onnx.defs.SchemaError:
        return None


def formal_name(schema: onnx.defs.OpSchema | None, index: int) -> str:
    """Return the formal name of input `index`; without a schema inputs are called by their number."""
    if schema is None or not schema.inputs:
        return str(index)
    return schema.inputs[min(index, len(schema.inputs) - 1)].name


def _used(value: ir.Value | None) -> bool:
    return value is not None and value.name != ""


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
