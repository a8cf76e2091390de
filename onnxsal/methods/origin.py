"""The layer that a proposal comes from, where no grid of the head tells: the one its score changes with most.

A pyramid has a layer per level, and a proposal is read off one of them: by RoIAlign off one that its size decides, by
deformable attention off several. What its gradient times the activation adds up to says which.
"""

import json
from collections.abc import Mapping, Set

import onnx_ir as ir

from onnxsal.autodiff import STANDARD
from onnxsal.autodiff.backward import differentiate
from onnxsal.autodiff.path import find_sources
from onnxsal.autodiff.primal import Primal
from onnxsal.detectors.registry import Proposals
from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import opset_of
from onnxsal.graph.find import find_value
from onnxsal.graph.flow import read_values
from onnxsal.graph.prune import prune
from onnxsal.methods.detector import Reading, read_head
from onnxsal.methods.explainer import detection_scalar
from onnxsal.model.network import Network

SHARES = "layer_shares"
Sources = Mapping[ir.Value, Set[ir.Value]]
"""Which layers a value depends on smoothly."""


def build_origin(network: Network, reading: Reading, *, batched: bool) -> ir.Model:
    """Return a model that says of one proposal how much each layer adds to its score: `layer_shares` (L,).

    Inputs beside the model's: `target` and `target_class`, as of an explainer of a detection. The metadata have the
    names of the L layers: of each grid the last that boxes and classes are both computed from, which is where a map of
    the whole detection belongs.
    """
    result = network.graph(batched=batched).clone()
    op = Op(result.graph, opset_of(result), result.ir_version or 10)
    proposals = read_head(network, reading, batched=batched).decode(op)
    scalar = detection_scalar(op, proposals)
    findings = network.findings(batched=batched)
    names = _shared_layers(op, proposals, {layer.name: layer.grid for layer in findings.all_layers})
    values = [find_value(result.graph, name) for name in names]
    gradients = differentiate(op, {scalar.of: scalar.seed}, values, STANDARD) if values else []
    shares = [
        op.Reshape(op.ReduceSum(op.Abs(op.Mul(gradient, op.once(Primal).read(value))), keepdims=0), [1])
        for value, gradient in zip(values, gradients, strict=True)
        if gradient is not None
    ]
    kept = [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
    result.graph.outputs.clear()
    if shares:
        found = op.rename(op.cast(op.Concat(*shares, axis=0), ir.DataType.FLOAT), SHARES)
        result.graph.outputs.append(found)
    else:
        result.graph.outputs.append(proposals.boxes)
    prune(result)
    result.metadata_props["onnxsal.explainer"] = json.dumps({"layers": kept})
    return result


def _shared_layers(op: Op, proposals: Proposals, grids: dict[str, tuple[int, int]]) -> list[str]:
    """Return the last layer of each grid that all else of this grid passes which boxes and classes are computed from.

    Those that do so through the others alone, as the backbone does behind a pyramid, are left out.
    """
    ends = (proposals.boxes, proposals.probabilities)
    candidates = {find_value(op.graph, name): grid for name, grid in grids.items()}
    sources = find_sources(op, ends, list(candidates), STANDARD)
    own: dict[tuple[int, int], list[ir.Value]] = {}
    for value, grid in candidates.items():
        if any(value in sources.get(end, ()) for end in ends):
            own.setdefault(grid, []).append(value)
    values = [layer for layers in own.values() if (layer := _passed_by_all(sources, layers, ends)) is not None]
    others = {value: {o for o in values if o is not value} for value in values}
    return [str(v.name) for v in values if _leads(sources, v, proposals.probabilities, others[v])]


def _passed_by_all(sources: Sources, layers: list[ir.Value], ends: tuple[ir.Value, ...]) -> ir.Value | None:
    """Return the last layer to lead to both ends that all before it lead to, and all behind it come from.

    A decoder projects what it reads once for each of its own layers, side by side.
    """

    def leads(one: ir.Value, other: ir.Value) -> bool:
        return one in sources.get(other, ())

    for i in reversed(range(len(layers))):
        if not all(leads(layers[i], end) for end in ends):
            continue
        behind, before = layers[i + 1 :], reversed(layers[:i])
        if all(leads(layers[i], v) for v in behind) and all(leads(v, layers[i]) for v in before):
            return layers[i]
    return None


def _leads(sources: Sources, value: ir.Value, end: ir.Value, others: set[ir.Value]) -> bool:
    """Tell whether `end` depends on a value smoothly, past the others."""
    stack, seen = [end], set(others)
    while stack:
        current = stack.pop()
        if current is value:
            return True
        node = current.producer()
        if current in seen or node is None or value not in sources.get(current, ()):
            continue
        seen.add(current)
        stack += read_values(node)
    return False
