"""Follow unknown sizes by name, through reshapes and through the arithmetic that makes shapes.

ONNX's inference gives the first size of `Reshape(x, [-1, 4, 17])` a new name, also where counting
elements shows that it is the batch again. Under two names the batch looks like a possible broadcast
at every later Add and MatMul, and gradients would have to ask the run about it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import onnx.shape_inference
import onnx_ir as ir

from onnxsal.graph.contents import Contents, factor, product, quotient
from onnxsal.graph.flow import subgraphs
from onnxsal.graph.fold import Folder, become_initializer
from onnxsal.graph.scopes import bodies
from onnxsal.graph.turns import follow_into
from onnxsal.graph.types import UNINFERRED, Dim, dims, type_proto

INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32})


def follow_symbols(model: ir.Model) -> bool:
    """Give sizes that are surely the same one name, in place; a multiple of the batch is called `4*batch`.

    Integers that turn out to be known, such as the number of channels taken from a shape, become
    initializers, and so does what is computed of nothing but constants. Tell whether any did.
    """
    walk = Walk(model)
    walk.visit_all(model.graph)
    graphs = [model.graph, *bodies(model.graph)]
    for value in [
        *(v for graph in graphs[1:] for v in graph.inputs),
        *(v for g in graphs for n in g for v in n.outputs),
    ]:
        walk.rename(value)
    for node in [node for graph in graphs for node in graph]:
        walk.settle_content(node)
    for graph in reversed(graphs):
        for node in reversed(list(graph)):
            _drop_if_unread(graph, node)
    for value in walk.made:
        if value.dtype in INTEGERS and not value.uses():
            del model.graph.initializers[str(value.name)]
    return bool(walk.made)


def _drop_if_unread(graph: ir.Graph, node: ir.Node) -> None:
    """Remove what is left of the arithmetic that made a shape. Floats stay: a user may ask for one by name."""
    if not any(v.uses() or v.is_graph_output() or v.dtype not in INTEGERS for v in node.outputs):
        graph.remove(node, safe=True)


class Walk:
    """What has been found so far.

    Attributes:
        graph: The main graph.
        opset: Version of `ai.onnx`.
        declared: The graph's outputs, whose shapes stay as the model declares them.
        folder: Computes what is constant.
        given: Names of sizes of graph inputs.
        names: What other names turned out to stand for.
        contents: What small integer values hold.
        changed: Values whose shape or content is now known better than ONNX's inference told.
        made: The initializers that nodes became.
        supposing: Whether what is found is only supposed, so that no node may change.
        anew: Whether to infer shapes also where nothing new is known of the inputs.
    """

    def __init__(self, model: ir.Model) -> None:
        """Know what a model declares of its inputs."""
        self.declared = set(model.graph.outputs)
        self.supposing = self.anew = False
        self.graph = model.graph
        self.folder = Folder(model)
        self.made: list[ir.Value] = []
        self.opset = model.opset_imports.get("", 0)
        self.given = {d for v in model.graph.inputs for d in dims(v) or () if isinstance(d, str)}
        self.names: dict[str, Dim] = {}
        self.contents = Contents()
        self.changed: set[ir.Value] = set()

    def visit_all(self, graph: ir.Graph) -> None:
        """Take in the nodes of a graph."""
        for node in list(graph):
            self.visit(node)

    @contextmanager
    def suppose(self) -> Iterator[None]:
        """Forget what is learnt within, and change no node; shapes of values stay as they were found."""
        before = self.supposing, dict(self.names), self.contents, set(self.changed)
        self.supposing, self.contents = True, self.contents.copy()
        yield
        self.supposing, self.names, self.contents, self.changed = before

    def visit(self, node: ir.Node) -> None:
        """Take in a node, and what it holds."""
        if not self.supposing and (made := self.folder.fold(node)):
            self.became(made)
            return
        for value in node.outputs:
            self.rename(value)
        follow_into(self, node)
        if node.domain != "" or node.inputs[:1] == (None,):
            return
        if self.anew or any(v in self.changed for v in node.inputs):
            self.infer_again(node)
        if node.op_type in ("Reshape", "Expand", "ConstantOfShape"):
            self.shape_as_told(node)
        self.contents.add(node)
        if not self.supposing:
            self.settle_content(node)

    def settle_content(self, node: ir.Node) -> None:
        """Replace a node's output by an initializer if what it holds is known."""
        value = node.outputs[0]
        if value.dtype not in INTEGERS or value.is_graph_output() or not value.uses():
            return
        array = self.contents.array(value)
        if array is not None:
            self.became([become_initializer(self.graph, value, ir.Tensor(array, dtype=value.dtype))])

    def became(self, initializers: list[ir.Value]) -> None:
        """Note what stands in place of a node's outputs now, so that their readers are looked at again."""
        self.changed.update(initializers)
        self.made += initializers

    def rename(self, value: ir.Value) -> None:
        """Write names found so far onto a value."""
        known = dims(value)
        if known is not None:
            self.settle(value, [self.resolve(d) for d in known])

    def resolve(self, dim: Dim) -> Dim:
        """Return what a size is called by now."""
        if not isinstance(dim, str):
            return dim
        number, name = factor(dim)
        return product([number, self.resolve(self.names[name])]) if name in self.names else dim

    def infer_again(self, node: ir.Node) -> None:
        """Infer a node's shapes from what is now known of its inputs."""
        if subgraphs(node):
            return
        inputs = [v for v in node.inputs if v is not None]
        if node.op_type in UNINFERRED:
            if (known := dims(inputs[0])) is not None:
                self.merge(node.outputs[0], known)
            return
        arrays = {str(v.name): a for v in inputs if (a := self.contents.array(v)) is not None}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.opset, ""),
                ir.serde.serialize_node(node),
                {str(v.name): type_proto(v) for v in inputs},
                {name: onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()},
                opset_imports=[onnx.helper.make_opsetid("", self.opset)],
            )
        except onnx.shape_inference.InferenceError:
            return
        for value in node.outputs:
            shape = ir.serde.deserialize_type_proto_for_shape(found[value.name]) if value.name in found else None
            if shape is not None:
                self.merge(value, [d if isinstance(d, int) else d.value for d in shape])

    def shape_as_told(self, node: ir.Node) -> None:
        """Read a result's shape from the node's last input, which tells it."""
        told = self.contents.of(node.inputs[-1])
        before = dims(node.inputs[0]) if node.inputs[0] is not None else None
        if told is None or before is None:
            return
        if node.op_type == "Expand":
            told = _broadcast(told, before)
        if node.op_type == "Reshape":
            told = _reshaped(told, before, zero_copies=not node.attributes.get_int("allowzero", 0))
        self.merge(node.outputs[0], told)

    def merge(self, value: ir.Value, new: Sequence[Dim]) -> None:
        """Keep of two shapes of one value what says more."""
        old = dims(value)
        if old is None or len(old) == len(new):
            self.settle(value, [self.better(a, b) for a, b in zip(old or [None] * len(new), new, strict=True)])

    def better(self, a: Dim, b: Dim) -> Dim:
        """Return a number rather than a name, and the name of a graph input's size rather than another."""
        a, b = self.resolve(a), self.resolve(b)
        if a is None or b is None or a == b:
            return b if a is None else a
        first = isinstance(a, int) or (not isinstance(b, int) and self.stems_from_input(a))
        keep, drop = (a, b) if first else (b, a)
        if isinstance(drop, str) and drop not in self.given and "*" not in drop:
            self.names[drop] = keep
        return keep

    def stems_from_input(self, dim: str) -> bool:
        """Tell whether a size is that of a graph input, or a multiple of it."""
        return factor(dim)[1] in self.given

    def settle(self, value: ir.Value, shape: Sequence[Dim]) -> None:
        """Write a shape onto a value. What the model declares of its outputs stays as it is."""
        if tuple(shape) != dims(value) and value not in self.declared:
            value.shape = ir.Shape(list(shape))
            self.changed.add(value)


def _reshaped(told: Sequence[Dim], before: Sequence[Dim], *, zero_copies: bool) -> list[Dim]:
    """Return Reshape's result: as many elements come out as went in, which tells the size that -1 stands for."""
    if zero_copies:
        told = [before[i] if d == 0 and i < len(before) else d for i, d in enumerate(told)]
    shape = [None if d == -1 else d for d in told]
    if shape.count(None) == 1:
        shape[shape.index(None)] = quotient(before, [d for d in shape if d is not None])
    return shape


def _broadcast(a: Sequence[Dim], b: Sequence[Dim]) -> list[Dim]:
    """Return the shape that two others broadcast to; None where it may be either's size."""
    count = max(len(a), len(b))
    pairs = zip([1] * (count - len(a)) + [*a], [1] * (count - len(b)) + [*b], strict=True)
    return [_broadcast_size(p, q) for p, q in pairs]


def _broadcast_size(a: Dim, b: Dim) -> Dim:
    if a == 1 or a == b:
        return b
    if b == 1 or (isinstance(b, int) and not isinstance(a, int)):
        return a if b == 1 else b
    return a if isinstance(a, int) else None
