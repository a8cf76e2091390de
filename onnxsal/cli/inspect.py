"""`onnxsal inspect`: what was found in a model, as tables."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    from onnxsal.cli.tables import Table
    from onnxsal.explanation.inspection import Inspection, LayerRow

LAYERS = 12
LABELS = 4
NODES = 4

Row = tuple[object, ...]


def _count(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """Return how many layers to show; None is all."""
    if value == "all":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor 'all'", ctx, param)
    return int(value)


@click.command("inspect")
@options.model_argument()
@options.card_option()
@click.option(
    "--layers", metavar="N|all", default=str(LAYERS), show_default=True, callback=_count, help="Show the last N layers."
)
@options.json_option("Print all of it as one JSON object.")
def command(model: Path, card: Path | None, layers: int | None, as_json: bool) -> None:
    """Show what was found in MODEL: inputs, card, classes, layers, and which methods work on it."""
    import onnxsal

    found = onnxsal.load(model, card=card).inspect()
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    from onnxsal.cli.tables import show

    show(list(_tables(found, layers)))


def _tables(found: "Inspection", layers: int | None) -> "Iterator[Table]":
    from onnxsal.cli.tables import Table

    yield Table("File", list(_file(found.file)))
    yield Table("Inputs and outputs", [*_values("input", found.inputs), *_values("output", found.outputs)])
    yield Table("Image", list(_image(found.image)))
    yield Table("Card", list(_card(found.card)), ("field", "value", "from"))
    if found.error:
        yield Table("The graph cannot be explained", [(found.error,)])
        return
    if not found.detectors:  # whose boxes (N, 4) may look like scores of four classes
        yield Table("Classes", list(_head(found.head)))
    shown = found.layers if layers is None else found.layers[len(found.layers) - min(layers, len(found.layers)) :]
    if shown:
        title = f"Layers (-l), the last {len(shown)} of {len(found.layers)}"
        # Each detection has a layer of its own.
        default = None if found.detectors else found.default_layer
        title += "; * is the default" if default else ""
        yield Table(title, [_layer(row, default) for row in shown], ("", "value", "node", "shape", "grid"))
    if not found.default_layer:
        yield Table("No default layer", [(found.default_layer_reason,)])
    aimed = ", of a detection (-t box:0, -t all)" if found.detectors else ""
    yield Table(f"Methods (-m){aimed}", list(_methods(found)))
    if found.detectors:
        rows = [(d["decoder"], "; ".join(d["evidence"])) for d in found.detectors]
        yield Table("Detector heads, the surest first", rows, ("decoder", "evidence"))
    if found.unsupported:
        yield Table("Operators without a rule", list(_unsupported(found)), ("operator", "nodes", "on the path"))
    touched = list(_rectifiers(found))
    if touched:
        yield Table("Rectifiers whose gradient is modified", touched)


def _file(file: dict[str, Any]) -> Iterator[Row]:
    yield "name", file["name"]
    yield "sha256", file["sha256"]
    yield "made by", file["producer"] or "not said"
    yield "opset", f"{file['opset']}, IR {file['ir_version']}, operators of {', '.join(file['domains'])}"
    yield "nodes", file["nodes"]
    if file["external_data"]:
        yield "weights in", ", ".join(file["external_data"])


def _values(role: str, values: Sequence[dict[str, Any]]) -> Iterator[Row]:
    for value in values:
        yield role, value["name"], value["dtype"], _shape(value["shape"])


def _image(image: dict[str, Any]) -> Iterator[Row]:
    yield "input", image["input"]
    yield "layout", image["layout"]
    if "gradient_point" in image:
        yield "gradient at", image["gradient_point"]
    if image.get("gradient_point_reason"):
        yield "because", image["gradient_point_reason"]


def _card(card: dict[str, Any]) -> Iterator[Row]:
    for field, value in card["values"].items():
        source = card["sources"].get(field, "")
        yield field, _shown(field, value), f"GUESSED: {source}" if field in card["guesses"] else source
    for note in card["notes"]:
        yield "note", note


def _shown(field: str, value: Any) -> str:
    if field == "labels":
        return f"{len(value)}: {', '.join(value[:LABELS])}{', ...' if len(value) > LABELS else ''}"
    if isinstance(value, list):
        return ", ".join(_shown("", part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _head(head: dict[str, Any]) -> Iterator[Row]:
    if head.get("reason"):
        yield "none", head["reason"]
    if head.get("class_output"):
        yield "output", head["class_output"]
        yield "number", "?" if head["classes"] is None else head["classes"]
    if head.get("logits"):
        behind = f", behind which is a {head['activation']}" if head.get("activation") else ""
        yield "logits", f"{head['logits']}, classes on axis {head['class_axis']}{behind}"
    if head.get("gap"):
        yield "pooled layer", f"{head['gap']['features']}, averaged into {head['gap']['pooled']}"
    elif head.get("gap_reason"):
        yield "no CAM head", head["gap_reason"]


def _layer(row: "LayerRow", default: str | None) -> Row:
    grid = f"{row.grid[0]} x {row.grid[1]}"
    if row.kind in ("tokens", "windows"):
        grid += f", folded from {row.kind}"
    if row.extra:
        grid += f", {row.extra} extra left out"
    return "*" if row.name == default else "", row.name, f"{row.node} ({row.op_type})", _shape(row.shape), grid


def _methods(found: "Inspection") -> Iterator[Row]:
    said: dict[str, str] = {}
    for verdict in found.methods:
        if verdict.reason in said:
            yield verdict.method, "no", f"as for {said[verdict.reason]}"
        elif not verdict.works:
            said[verdict.reason] = verdict.method
            yield verdict.method, "no", verdict.reason
        elif verdict.layer:
            yield verdict.method, "yes", f"layer {verdict.layer}"
        else:
            yield verdict.method, "yes"


def _unsupported(found: "Inspection") -> Iterator[Row]:
    for row in found.unsupported:
        nodes = row["nodes"]
        shown = f"{len(nodes)}: {', '.join(nodes[:NODES])}{', ...' if len(nodes) > NODES else ''}"
        yield row["operator"], shown, "yes" if row["on_path"] else "no"


def _rectifiers(found: "Inspection") -> Iterator[Row]:
    """Yield each set of nodes once, with the methods that share it."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for verdict in found.methods:
        if verdict.rectifiers:
            sets.setdefault(verdict.rectifiers, []).append(verdict.method)
    for nodes, methods in sets.items():
        yield ", ".join(methods), f"{len(nodes)}: {', '.join(nodes)}"


def _shape(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return f"({', '.join('?' if dim is None else str(dim) for dim in shape)})"
