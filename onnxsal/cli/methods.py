"""`onnxsal methods`: the registry as a table."""

import json
from typing import Any

import click

from onnxsal.cli import options


@click.command("methods")
@options.json_option("Print one JSON array.")
def command(as_json: bool) -> None:
    """List the methods: what each shows, its paper, its settings with their defaults."""
    from onnxsal.cli.tables import Table, show
    from onnxsal.methods import methods

    infos = methods().values()
    if as_json:
        keys = ("name", "summary", "source", "settings")
        click.echo(json.dumps([{key: getattr(info, key) for key in keys} for info in infos], indent=2))
        return
    rows = [(info.name, info.summary, info.source, _shown(info.settings)) for info in infos]
    show([Table("Methods", rows, ("-m", "what it shows", "source", "settings (--set)"))])


def _shown(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={_as_typed(default)}" for key, default in settings.items())


def _as_typed(default: Any) -> str:
    """Return a default as one would type it."""
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)
