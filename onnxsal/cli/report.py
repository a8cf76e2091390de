"""What `onnxsal explain` prints: a line, or a JSON object, for each explanation."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from onnxsal.model.card import ResolvedCard, plain

if TYPE_CHECKING:
    from onnxsal.cli.explain import Job
    from onnxsal.explanation import Explanation


def print_job(job: "Job", explanations: "Sequence[Explanation]", *, as_json: bool) -> None:
    """Print a line for each explanation of a photo, and one for their panel."""
    for explanation, paths in zip(explanations, job.files, strict=True):
        files = [str(path) for path in paths]
        if as_json:
            panel = {"panel": str(job.panel)} if job.panel else {}
            # ASCII only, so that no label can steer a terminal.
            click.echo(json.dumps({"photo": str(job.photo)} | explanation.facts() | {"files": files} | panel))
        else:
            click.echo(f"{plain(job.photo)}: {describe(explanation)} -> {plain(', '.join(files))}")
    if job.panel and not as_json:
        click.echo(f"{plain(job.photo)}: all {len(explanations)} methods -> {plain(job.panel)}")


def describe(explanation: "Explanation") -> str:
    """Return prediction, method, target and score in one line of plain text."""
    predicted = f"{explanation.predictions[0]}; " if explanation.predictions else ""
    return plain(f"{predicted}{explanation.method} of {explanation.target}, score {explanation.score:.4g}")


def announce_guesses(card: ResolvedCard) -> None:
    """Say on stderr which fields of the card were guessed, if any were."""
    if card.guesses:
        said = card.card.to_dict()
        fields = ", ".join(f"{field} {_short(said[field])}" for field in card.guesses)
        click.echo(plain(f"guessed: {fields}; a card settles it: --card FILE (see onnxsal inspect)"), err=True)


def _short(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_short(part) for part in value[:4])}{', ...' if len(value) > 4 else ''}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
