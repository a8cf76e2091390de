"""What in a graph depends on what is fed in, and what follows from its constants alone."""

from collections.abc import Iterable

import onnx_ir as ir


def computed(graph: ir.Graph) -> set[ir.Value]:
    """Return the values that depend on a graph input; the others are weights, perhaps decoded or transposed.

    An initializer that is also an input (up to IR 3 all are) is a weight, and so is a scale that is found
    at run time: what it says of the input its integers say already.
    """
    found = {v for v in graph.inputs if v.const_value is None}
    for node in graph:
        # A node that holds a graph may read values that are not among its inputs.
        if any(v in found for v in node.inputs) or subgraphs(node):
            found.update(node.outputs[:1] if node.op_type == "DynamicQuantizeLinear" else node.outputs)
    return found


def read_values(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, the outer values that its subgraphs read included."""
    inner = [v for graph in subgraphs(node) for n in ir.traversal.RecursiveGraphIterator(graph) for v in n.inputs]
    return [v for v in [*node.inputs, *inner] if v is not None]


def values_behind(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Return what some values are computed from."""
    found: set[ir.Value] = set()
    stack = list(values)
    while stack:
        node = stack.pop().producer()
        new = set(read_values(node)) - found if node is not None else set()
        found |= new
        stack += new
    return found


def captured(node: ir.Node) -> list[ir.Value]:
    """Return the values of enclosing graphs that a node's subgraphs read, each once."""
    made: set[ir.Value] = set()
    read: dict[ir.Value, None] = {}
    stack = subgraphs(node)
    while stack:
        graph = stack.pop()
        made.update(graph.inputs, graph.initializers.values())
        for inner in graph:
            made.update(inner.outputs)
            read.update((v, None) for v in inner.inputs if v is not None)
            stack += subgraphs(inner)
    return [v for v in read if v not in made]


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that a node holds, such as the branches of an If."""
    one = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return one + [g for a in node.attributes.values() if a.type == ir.AttributeType.GRAPHS for g in a.as_graphs()]


def forget_reads(node: ir.Node) -> None:
    """Let nothing within a node count as a reader: onnx_ir looks at the node's own inputs only when it removes one."""
    for graph in subgraphs(node):
        for inner in graph:
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)
            forget_reads(inner)
