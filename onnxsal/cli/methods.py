"""`onnxsal methods`: the registry as a table."""

import json
from collections.abc import Mapping
from typing import Any

import click

from onnxsal.cli import options


@click.command("methods")
@options.json_option("Print one JSON array.")
def command(as_json: bool) -> None:
    """List the methods: what each shows, its paper, its settings with their defaults, and what --like sets."""
    from onnxsal.cli.tables import Table, show
    from onnxsal.methods import methods
    from onnxsal.methods.presets import PRESETS

    infos = methods().values()
    if as_json:
        keys = ("name", "summary", "source", "settings")
        listed = [{key: getattr(info, key) for key in keys} | {"like": _presets_of(info.name)} for info in infos]
        click.echo(json.dumps(listed, indent=2))
        return
    rows = [(info.name, info.summary, info.source, _shown(info.settings)) for info in infos]
    tables = [Table("Methods", rows, ("-m", "what it shows", "source", "settings (--set)"))]
    for name, preset in PRESETS.items():
        like = [(method, _shown(settings) or "as they are") for method, settings in preset.methods.items()]
        tables.append(Table(f"--like {name}: {preset.library}", like, ("-m", "settings")))
    show(tables)


def _presets_of(method: str) -> dict[str, dict[str, Any]]:
    """Return a method's settings by the preset that has it."""
    from onnxsal.methods.presets import PRESETS

    return {name: dict(p.methods[method]) for name, p in PRESETS.items() if method in p.methods}


def _shown(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_as_typed(default)}" for key, default in settings.items())


def _as_typed(default: Any) -> str:
    """Return a default as one would type it."""
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)
