"""Read through sequences whose entries are known before the run, and through values that surely hold something.

PyTorch's exporter writes `torch.split` as SplitToSequence and one SequenceAt per part, and lists of its
functions as SequenceConstruct or a chain of SequenceInsert. As long as the places are constant, whoever
reads such a sequence can read its entries.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsal.graph.types import constant, dims


@dataclass
class _Seen:
    """What has been found so far.

    Attributes:
        graph: The graph.
        main: The main graph, where constants stand.
        entries: By sequence.
        unwritten: The SplitToSequence that stands for each part that no Split makes yet.
    """

    graph: ir.Graph
    main: ir.Graph
    entries: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    unwritten: dict[ir.Value, ir.Node] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> list[ir.Value] | None:
        """Return the entries of a sequence, if they are known."""
        return None if value is None else self.entries.get(value)

    def constant(self, name: str, content: Any) -> ir.Value:
        """Return a new initializer."""
        number, free = 0, name
        while free in self.main.initializers:
            number, free = number + 1, f"{name}_{number}"
        array = np.asarray(content)
        tensor = ir.tensor(array, name=free)
        value = ir.Value(name=free, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
        self.main.register_initializer(value)
        return value


def read_through_sequences(graph: ir.Graph, main: ir.Graph) -> bool:
    """Let readers of known sequences read their entries, in place; tell whether any did.

    Args:
        graph: The main graph, or a body.
        main: The main graph, where constants stand.
    """
    seen, changed = _Seen(graph, main), False
    for node in list(graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        rewrite = READERS.get(node.op_type)
        if rewrite is not None and rewrite(seen, node):
            changed = True
        elif (entries := _entries(seen, node)) is not None:
            seen.entries[node.outputs[0]] = entries
    for maker in reversed([v.producer() for v in seen.entries]):
        if maker is not None and not maker.outputs[0].uses() and not maker.outputs[0].is_graph_output():
            graph.remove(maker, safe=True)
    return changed


# ----- What makes sequences -----


def _entries(seen: _Seen, node: ir.Node) -> list[ir.Value] | None:
    """Return the entries of the sequence that a node makes, or None where only the run knows them."""
    if node.op_type == "SequenceConstruct":
        return [v for v in node.inputs if v is not None]
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SplitToSequence":
        return _parts(seen, node)
    before = seen.of(node.inputs[0]) if node.inputs else None
    if before is None or node.op_type not in ("Identity", "SequenceInsert", "SequenceErase"):
        return None
    if node.op_type == "Identity":
        return before
    inserts = node.op_type == "SequenceInsert"
    place = _place(node, 2 if inserts else 1, len(before), last=len(before) - (not inserts))
    tensor = node.inputs[1] if inserts else None
    if place is None:
        return None
    return before[:place] + ([] if tensor is None else [tensor]) + before[place + (not inserts) :]


def _place(node: ir.Node, index: int, length: int, *, last: int) -> int | None:
    """Return a constant place, counted from the begin; `last` where the node has none."""
    value = node.inputs[index] if index < len(node.inputs) else None
    given = constant(value)
    if value is None or given is None:
        return last if value is None else None
    place = int(given.item())
    place += length if place < 0 else 0
    return place if 0 <= place <= last else None


def _parts(seen: _Seen, node: ir.Node) -> list[ir.Value] | None:
    """Return values for the parts of a SplitToSequence, which a Split makes once somebody reads one."""
    sizes = _sizes(node)
    if sizes is None:
        return None
    parts = [ir.Value(name=f"{node.outputs[0].name}_part_{i}") for i in range(len(sizes))]
    seen.unwritten.update(dict.fromkeys(parts, node))
    return parts


def _make(seen: _Seen, parts: Iterable[ir.Value]) -> None:
    """Write the Splits that make these values."""
    for node in dict.fromkeys(seen.unwritten[v] for v in parts if v in seen.unwritten):
        made, axis = [v for v, maker in seen.unwritten.items() if maker is node], node.attributes.get_int("axis", 0)
        sizes = seen.constant(f"{node.outputs[0].name}_sizes", np.array(_sizes(node), np.int64))
        squeezed = len(node.inputs) < 2 and not node.attributes.get_int("keepdims", 1)
        outputs = [ir.Value(name=f"{v.name}_whole") for v in made] if squeezed else made
        name = f"{node.name or node.outputs[0].name}_split"
        _insert(seen, node, "Split", [node.inputs[0], sizes], outputs, name, ir.AttrInt64("axis", axis))
        if squeezed:
            axes = seen.constant(f"{node.outputs[0].name}_axis", np.array([axis], np.int64))
            for whole, part in zip(outputs, made, strict=True):
                _insert(seen, node, "Squeeze", [whole, axes], [part], str(part.name))
        for value in made:
            del seen.unwritten[value]


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


# ----- What reads them -----


def _read_entry(seen: _Seen, node: ir.Node) -> bool:
    entries = seen.of(node.inputs[0])
    place = None if entries is None else _place(node, 1, len(entries), last=len(entries) - 1)
    if entries is None or place is None:
        return False
    _make(seen, [entries[place]])
    # The entry keeps the name of what was read from the sequence, since users may know it.
    _take_over(seen.graph, node, "Identity", [entries[place]])
    return True


def _read_length(seen: _Seen, node: ir.Node) -> bool:
    entries = seen.of(node.inputs[0])
    if entries is None:
        return False
    _take_over(seen.graph, node, "Identity", [seen.constant(f"{node.outputs[0].name}_known", len(entries))])
    return True


def _join(seen: _Seen, node: ir.Node) -> bool:
    entries = seen.of(node.inputs[0])
    if not entries:
        return False
    _make(seen, entries)
    axis, stem = node.attributes.get_int("axis", 0), node.outputs[0].name
    if node.attributes.get_int("new_axis", 0):
        axes = seen.constant(f"{stem}_axis", np.array([axis], np.int64))
        wide = [ir.Value(name=f"{stem}_{i}") for i in range(len(entries))]
        for entry, value in zip(entries, wide, strict=True):
            _insert(seen, node, "Unsqueeze", [entry, axes], [value], str(value.name))
        entries = wide
    _take_over(seen.graph, node, "Concat", entries, [ir.AttrInt64("axis", axis)])
    return True


def _read_optional(seen: _Seen, node: ir.Node) -> bool:
    """Let what surely holds something be what it holds."""
    held = _held(node.inputs[0])
    if held is None:
        return False
    _take_over(seen.graph, node, "Identity", [held])
    return True


def _ask_optional(seen: _Seen, node: ir.Node) -> bool:
    value = node.inputs[0] if node.inputs else None
    maker = value.producer() if value is not None else None
    empty = value is None or (maker is not None and maker.op_type == "Optional" and not any(maker.inputs))
    if not empty and _held(value) is None:
        return False
    _take_over(seen.graph, node, "Identity", [seen.constant(f"{node.outputs[0].name}_known", not empty)])
    return True


def _held(value: ir.Value | None) -> ir.Value | None:
    """Return the tensor or sequence that a value surely is, or holds."""
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "Optional" and maker.inputs:
        return maker.inputs[0]
    return value if value is not None and isinstance(value.type, ir.TensorType | ir.SequenceType) else None


READERS: dict[str, Callable[[_Seen, ir.Node], bool]] = {
    "SequenceAt": _read_entry,
    "SequenceLength": _read_length,
    "ConcatFromSequence": _join,
    "OptionalGetElement": _read_optional,
    "OptionalHasElement": _ask_optional,
}


# ----- Nodes -----


def _insert(
    seen: _Seen,
    before: ir.Node,
    op_type: str,
    inputs: list[ir.Value | None],
    outputs: list[ir.Value],
    name: str,
    *attributes: ir.Attr,
) -> None:
    seen.graph.insert_before(before, ir.Node("", op_type, inputs, attributes, outputs=outputs, name=name))


def _take_over(
    graph: ir.Graph, old: ir.Node, op_type: str, inputs: list[ir.Value], attributes: list[ir.Attr] | None = None
) -> None:
    """Put one node in the place of another, under the name of its output."""
    new = ir.Node("", op_type, inputs, attributes or (), num_outputs=1, name=old.name)
    graph.insert_before(old, new)
    before, after = old.outputs[0], new.outputs[0]
    after.name, before.name = before.name, f"{before.name}_of_sequence"
    after.type, after.shape = before.type, before.shape
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    graph.remove(old, safe=True)
