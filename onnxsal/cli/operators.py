"""`onnxsal operators`: what has a gradient, as a table."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    from onnxsal.autodiff import Support


@click.command("operators")
@options.json_option("Print one JSON array.")
def command(as_json: bool) -> None:
    """List the operators that gradients pass, by domain and opset.

    Inputs that are neither listed with a rule nor declared zero carry no numbers, or are an error to pass.
    """
    from onnxsal.autodiff import supported
    from onnxsal.cli.tables import Table, show

    rows = supported()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    header = ("operator", "opsets", "inputs with a rule", "derivative zero", "no rule")
    show([Table(f"Operators ({len(rows)})", [_cells(row) for row in rows], header)])


def _cells(row: "Support") -> tuple[str, ...]:
    name = row.operator if row.domain == "ai.onnx" else f"{row.domain}::{row.operator}"
    opsets = "-" if row.opsets is None else f"{row.opsets[0]} to {row.opsets[1]}"
    rules = ", ".join([*row.rules, *([f"as {row.through}"] if row.through else [])])
    return name, opsets, rules, ", ".join(row.zero), ", ".join(row.undefined)
