"""Bring bodies of control flow into the scope of the main graph: names of their own, constants shared."""

import onnx_ir as ir

from onnxsal.graph.flow import subgraphs


def name_apart(model: ir.Model) -> None:
    """Let no two values have one name, in place. ONNX lets the branches of an If share names; main names stay."""
    taken = {v.name for v in [*model.graph.inputs, *model.graph.initializers.values()]}
    taken |= {v.name for node in model.graph for v in node.outputs}
    for graph in bodies(model.graph):
        inner = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        for value in dict.fromkeys(inner):
            if value.name in taken:
                _rename(value, _fresh(value.name, taken))
            taken |= {value.name} if value.name else set()


def _rename(value: ir.Value, name: str) -> None:
    if value.const_value is not None:
        # To rename a value is to rename its tensor, which is the original model's too.
        value.const_value = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=name)
    value.name = name


def _fresh(name: str | None, taken: set[str | None]) -> str:
    number, found = 0, str(name)
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def share_initializers(model: ir.Model) -> None:
    """Move the initializers of bodies to the main graph, in place."""
    for graph in bodies(model.graph):
        for value in list(graph.initializers.values()):
            if not value.is_graph_input():
                _move(model.graph, graph, value)


def _move(main: ir.Graph, graph: ir.Graph, value: ir.Value) -> None:
    assert value.name is not None
    for index, output in enumerate(graph.outputs):
        if output is value:  # a body cannot return what stands around it
            copy = ir.Value(name=f"{value.name}_returned", type=value.type, shape=value.shape)
            graph.append(ir.Node("", "Identity", [value], outputs=[copy], name=copy.name))
            graph.outputs[index] = copy
    del graph.initializers[value.name]
    main.register_initializer(value)


def bodies(graph: ir.Graph) -> list[ir.Graph]:
    """Return all graphs within the nodes of a graph, outer ones first."""
    found = [inner for node in graph for inner in subgraphs(node)]
    return found + [deeper for inner in found for deeper in bodies(inner)]
