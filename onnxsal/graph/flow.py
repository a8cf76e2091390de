"""What in a graph depends on what is fed in, and what follows from its constants alone."""

import onnx_ir as ir


def computed(graph: ir.Graph) -> set[ir.Value]:
    """Return the values that depend on a graph input; the others are weights, perhaps decoded or transposed.

    An initializer that is also an input (up to IR 3 all are) is a weight.
    """
    found = {v for v in graph.inputs if v.const_value is None}
    for node in graph:
        # A node that holds a graph may read values that are not among its inputs.
        if any(v in found for v in node.inputs) or _has_graphs(node):
            found.update(node.outputs)
    return found


def _has_graphs(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def read_values(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, the outer values that its subgraphs read included."""
    inner = [v for graph in _subgraphs(node) for n in ir.traversal.RecursiveGraphIterator(graph) for v in n.inputs]
    return [v for v in [*node.inputs, *inner] if v is not None]


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    one = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return one + [g for a in node.attributes.values() if a.type == ir.AttributeType.GRAPHS for g in a.as_graphs()]
