"""A detector with its head decoded, and with masks before its image and one number per detection behind it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from onnxsal.detectors.detections import BOXES, OBJECTNESS, PROBABILITIES, Kind
from onnxsal.detectors.families import Candidate, Evidence, Proposals, decoders, recognise
from onnxsal.detectors.peeling import Peel
from onnxsal.detectors.similarity import best_match
from onnxsal.errors import DetectorError
from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import opset_of
from onnxsal.graph.find import find_value
from onnxsal.graph.flow import values_behind
from onnxsal.graph.prune import prune
from onnxsal.methods.masked import build_masked
from onnxsal.model.levels import level_layers
from onnxsal.model.network import Network

TARGET_BOXES, TARGET_PROBABILITIES = "target_boxes", "target_probabilities"

BOXES_ARE_FOUND = ("detection", "pose")
"""Tasks of models that say where something is by a box."""
SURE = 0.6
"""How sure a head has to be for a model's numbers to be its, and not classes."""


def find_candidates(network: Network, decoder: str | None, *, batched: bool = False) -> list[Candidate]:
    """Return the heads that a network may have, the surest first.

    Raises:
        DetectorError: There is no decoder of that name, or it finds nothing it could decode.
    """
    return recognise(_evidence(network, batched), decoder)


def find_heads(network: Network) -> list[Candidate]:
    """Return the heads of detectors that a model has which nobody called one, the surest first.

    Where an output may be scores of classes just as well, a head counts only if it is sure, or the card says so.
    """
    said = network.card.said_task
    if said not in (None, *BOXES_ARE_FOUND) or (said is None and network.card.card.output is not None):
        return []
    least = 0.0 if said is not None or network.findings().head.output is None else SURE
    return [candidate for candidate in find_candidates(network, None) if candidate.sure >= least]


def _evidence(network: Network, batched: bool) -> Evidence:
    card = network.card.card
    if card.size is None:
        raise DetectorError("the size of the model's input is not known: give size = [H, W] in the card")
    outputs = network.findings(batched=batched).grid.outputs()
    return Evidence(network.graph(batched=batched), network.signature.metadata, card.size, card.classes, outputs)


def surest(network: Network, decoder: str | None, *, batched: bool = False) -> Candidate:
    """Return the head that a network most likely has.

    Raises:
        DetectorError: None is recognised.
    """
    found = find_candidates(network, decoder, batched=batched)
    if not found:
        shapes = ", ".join(f"{name!r} {shape}" for name, shape in _evidence(network, False).outputs.items())
        raise DetectorError(
            f"no detector head is recognised in the outputs {shapes}: name its decoder (decoder=...): "
            f"{', '.join(decoders())}"
        )
    return found[0]


@dataclass(frozen=True)
class Reading:
    """How a head is read.

    Attributes:
        decoder: Name of the decoder; None recognises it.
        peel: Where the proposals before suppression are, if the head has suppressed and they were found.
    """

    decoder: str | None = None
    peel: Peel | None = None


def read_head(network: Network, reading: Reading, *, batched: bool) -> Candidate:
    """Return the head, decoded as `reading` says.

    Raises:
        DetectorError: None is recognised.
    """
    candidate = surest(network, reading.decoder, batched=batched)
    peel, size = reading.peel, network.card.card.size
    if peel is None or size is None:
        return candidate
    said = [
        *candidate.evidence,
        f"proposals before suppression: boxes {peel.boxes.name!r}, class scores {peel.scores.name!r}",
    ]
    return replace(candidate, evidence=said, decode=lambda op: peel.decode(op, size))


def build_probe(network: Network, names: Iterable[str], *, batched: bool) -> ir.Model:
    """Return the model with inner values as its outputs."""
    result = network.graph(batched=batched).clone()
    result.graph.outputs.clear()
    result.graph.outputs.extend(find_value(result.graph, name) for name in dict.fromkeys(names))
    prune(result)
    result.metadata_props["onnxsal.explainer"] = "{}"
    return result


def build_detector(network: Network, reading: Reading, *, batched: bool) -> ir.Model:
    """Return the model with its proposals as outputs, in float32."""
    candidate = read_head(network, reading, batched=batched)
    result = network.graph(batched=batched).clone()
    op = Op(result.graph, opset_of(result), result.ir_version or 10)
    with op.scope("detection"):
        proposals = candidate.decode(op)
        named = {BOXES: proposals.boxes, PROBABILITIES: proposals.probabilities, OBJECTNESS: proposals.objectness}
        _make_room(result.graph, named)
        outputs = [_output(op, value, name) for name, value in named.items() if value is not None]
        read = {v.name for v in values_behind(value for value in named.values() if value is not None)}
    result.graph.outputs.clear()
    result.graph.outputs.extend(outputs)
    prune(result)
    findings = network.findings(batched=batched)
    # A branch of masks or key points says nothing of boxes.
    layers = level_layers(findings.grid, findings.graph, [layer for layer in findings.all_layers if layer.name in read])
    levels = [[rows, columns, count, layers.get((rows, columns))] for rows, columns, count in candidate.levels]
    result.metadata_props["onnxsal.explainer"] = json.dumps(_facts(candidate, proposals) | {"levels": levels})
    return result


def _facts(candidate: Candidate, proposals: Proposals) -> dict[str, Any]:
    return {
        "decoder": candidate.name,
        "evidence": list(candidate.evidence),
        "top_only": proposals.top_only,
        "distinct": proposals.distinct,
        "first_class": proposals.first_class,
        "single": candidate.single,
    }


def _make_room(graph: ir.Graph, names: Iterable[str]) -> None:
    """Rename the model's own values that have the name of an output that is added, as TensorFlow's have."""
    taken = set(names)
    for value in (v for node in graph for v in node.outputs):
        if value.name in taken:
            value.name = f"{value.name}_of_model"


def _output(op: Op, value: ir.Value, name: str) -> ir.Value:
    value = op.cast(value, ir.DataType.FLOAT)
    output = ir.Value(name=name, type=value.type, shape=value.shape)
    op.graph.append(ir.Node("", "Identity", [value], outputs=[output], name=op.fresh(name)))
    return output


def build_masked_detector(network: Network, reading: Reading, kind: Kind, *, filled: bool, batched: bool) -> ir.Model:
    """Return the masked model whose `answer` (n, T) says how well T detections are found again under n masks.

    Inputs beside those of `build_masked`: `target_boxes` (T, 4), `target_probabilities` (T, K).
    """
    candidate = read_head(network, reading, batched=batched)
    facts: dict[str, Any] = {}

    def finish(op: Op) -> ir.Value:
        proposals = candidate.decode(op)
        facts.update(_facts(candidate, proposals))
        boxes, probabilities = _given(op, TARGET_BOXES, 4), _given(op, TARGET_PROBABILITIES, "K")
        compared = "hard" if proposals.top_only and kind != "vem" else kind
        return best_match(op, _float32(op, proposals), boxes, probabilities, compared)

    image, layout = network.card.image.name, network.card.card.layout or "NCHW"
    model = build_masked(network.graph(batched=batched), image, layout, finish=finish, filled=filled)
    model.metadata_props["onnxsal.explainer"] = json.dumps(facts)
    return model


def _float32(op: Op, proposals: Proposals) -> Proposals:
    boxes, probabilities = (op.cast(v, ir.DataType.FLOAT) for v in (proposals.boxes, proposals.probabilities))
    objectness = None if proposals.objectness is None else op.cast(proposals.objectness, ir.DataType.FLOAT)
    return replace(proposals, boxes=boxes, probabilities=probabilities, objectness=objectness)


def _given(op: Op, name: str, width: int | str) -> ir.Value:
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["detections", width]))
    op.graph.inputs.append(value)
    return value
