"""Put the branch that is taken in the place of an If whose condition is known.

PyTorch's older exporter writes an If wherever a size might be one; behind it not even the number of
axes is known before the run.
"""

from collections.abc import Iterable

import onnx_ir as ir

from onnxsal.graph.types import constant


def take_known_branches(graph: ir.Graph) -> bool:
    """Inline the branches that constant conditions choose, in place; tell whether any was."""
    found = [n for n in graph if n.op_type == "If" and n.domain == "" and constant(n.inputs[0]) is not None]
    if found:
        names = {*_names(graph)}
        for node in found:
            _take(graph, node, names)
    return bool(found)


def _take(graph: ir.Graph, node: ir.Node, names: set[str | None]) -> None:
    condition = constant(node.inputs[0])
    assert condition is not None
    branch = node.attributes["then_branch" if condition.all() else "else_branch"].as_graph()
    results = list(branch.outputs)
    branch.outputs.clear()
    _move_initializers(branch, graph, names)
    inner = list(branch)
    branch.remove(inner)
    for moved in inner:
        for value in filter(lambda v: v.name, moved.outputs):
            value.name = _free(value.name, names)
        graph.insert_before(node, moved)
    for output, result in zip(list(node.outputs), results, strict=True):
        _pass_on(graph, node, output, result)
    graph.remove(node, safe=True)


def _move_initializers(branch: ir.Graph, graph: ir.Graph, names: set[str | None]) -> None:
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        free = _free(name, names)
        if free != name and value.const_value is not None:
            # To rename a value is to rename its tensor, which is the original model's too.
            value.const_value = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=free)
        value.name = free
        graph.register_initializer(value)


def _pass_on(graph: ir.Graph, node: ir.Node, output: ir.Value, result: ir.Value) -> None:
    """Let an output of the If be what its branch gives, under the name that users may know."""
    passed = ir.Node("", "Identity", [result], num_outputs=1, name=f"{output.name}_taken")
    graph.insert_before(node, passed)
    after = passed.outputs[0]
    after.name, output.name = output.name, f"{output.name}_of_if"
    after.type, after.shape = output.type, output.shape
    ir.convenience.replace_all_uses_with(output, after, replace_graph_outputs=True)


def _free(name: str | None, names: set[str | None]) -> str:
    """Return `name`, or one like it that the graph does not have yet: two branches may use the same."""
    number, made = 1, str(name)
    while made in names:
        number, made = number + 1, f"{name}_{number}"
    names.add(made)
    return made


def _names(graph: ir.Graph) -> Iterable[str | None]:
    yield from graph.initializers
    yield from (v.name for v in graph.inputs)
    yield from (v.name for node in graph for v in node.outputs)
