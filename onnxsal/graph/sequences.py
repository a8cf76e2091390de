"""Write the parting of a tensor as Split, where an exporter made a sequence of it.

PyTorch's exporter writes `torch.split` as SplitToSequence and one SequenceAt per part. As long as the
places are constant that is a Split.
"""

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import constant, dims


def part_sequences(graph: ir.Graph) -> bool:
    """Replace each SplitToSequence whose parts are read at constant places, in place; tell whether any was."""
    found = [n for n in graph if n.op_type == "SplitToSequence" and n.domain == "" and _is_readable(n)]
    for node in found:
        _part(graph, node)
    return bool(found)


def _is_readable(node: ir.Node) -> bool:
    sequence = node.outputs[0]
    if sequence.is_graph_output() or _sizes(node) is None:
        return False
    readers = [use.node for use in sequence.uses()]
    return all(
        r.op_type == "SequenceAt" and r.graph is node.graph and constant(r.inputs[1]) is not None for r in readers
    )


def _sizes(node: ir.Node) -> list[int] | None:
    """Return the sizes of the parts, if they are known."""
    split = node.inputs[1] if len(node.inputs) > 1 else None
    given = constant(split)
    if split is not None and given is None:
        return None
    if given is not None and given.ndim == 1:
        return [int(n) for n in given]
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    total = shape[node.attributes.get_int("axis", 0)] if shape is not None else None
    if not isinstance(total, int):
        return None
    step = 1 if given is None else int(given)
    return [min(step, total - begin) for begin in range(0, total, step)]


def _part(graph: ir.Graph, node: ir.Node) -> None:
    sizes, sequence = _sizes(node), node.outputs[0]
    assert sizes is not None
    axis = node.attributes.get_int("axis", 0)
    split = ir.Node(
        "",
        "Split",
        [node.inputs[0], _vector(graph, f"{sequence.name}_sizes", sizes)],
        [ir.AttrInt64("axis", axis)],
        outputs=[ir.Value(name=f"{sequence.name}_{i}") for i in range(len(sizes))],
        name=node.name or f"{sequence.name}_split",
    )
    graph.insert_before(node, split)
    squeezed = len(node.inputs) < 2 and not node.attributes.get_int("keepdims", 1)
    for reader in [use.node for use in sequence.uses()]:
        place = constant(reader.inputs[1])
        assert place is not None
        # The part keeps the name of what was read from the sequence, since users may know it.
        inputs = [split.outputs[int(place)]]
        inputs += [_vector(graph, f"{reader.outputs[0].name}_axis", [axis])] if squeezed else []
        part = ir.Node("", "Squeeze" if squeezed else "Identity", inputs, num_outputs=1, name=reader.name)
        _take_over(graph, reader, part)
    graph.remove(node, safe=True)


def _take_over(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put one node in the place of another, under the name of its output."""
    graph.insert_before(old, new)
    before, after = old.outputs[0], new.outputs[0]
    after.name, before.name = before.name, f"{before.name}_of_sequence"
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def _vector(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape([len(numbers)]))
    graph.register_initializer(value)
    return value
