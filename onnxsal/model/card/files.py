"""A card as TOML file, or as metadata inside an ONNX file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from onnxsal.errors import CardError
from onnxsal.model.card.fields import CHECKS, Card, parse_card
from onnxsal.model.card.text import plain

# A label file is a few kilobytes, a card less; whatever is larger is not one.
_LARGEST_FILE = 16_000_000


def read_card(
    path: str | os.PathLike[str],
    *,
    labels_folder: Path | None = None,
    where: str | None = None,
    confined: bool = False,
) -> Card:
    """Return the card in a TOML file.

    Such a file may say `labels_file` in place of `labels`: a text file with one label per line.

    Args:
        path: The TOML file.
        labels_folder: The folder that `labels_file` is relative to; None takes the card's own.
        where: What to call the file in errors; None takes "card NAME".
        confined: Refuse a `labels_file` outside that folder.

    Raises:
        CardError: If the file cannot be read, is not TOML, or says something that cannot be.
    """
    # Imported here because most models have no such file.
    import tomllib

    path = Path(path)
    where = where or f"card {plain(path.name)}"
    try:
        said = tomllib.loads(read_text(path, where))
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{where}: not valid TOML: {plain(error)}") from error
    labels_file = said.pop("labels_file", None)
    if labels_file is not None:
        if "labels" in said or not isinstance(labels_file, str):
            raise CardError(f"{where}: labels_file must be one path to a text file, and labels then be left out")
        said["labels"] = read_labels(_labels_path(labels_folder or path.parent, labels_file, where, confined), where)
    return parse_card(said, where)


def _labels_path(folder: Path, labels_file: str, where: str, confined: bool) -> Path:
    path = folder / labels_file
    if confined and not path.resolve().is_relative_to(folder.resolve()):
        raise CardError(
            f"{where}: labels_file = {plain(repr(labels_file), 60)} lies outside the model's folder; "
            "copy it there, or give the card by --card"
        )
    return path


def read_labels(path: Path, where: str) -> list[str]:
    """Return the lines of a label file; empty lines at the end do not count."""
    return read_text(path, where).rstrip().splitlines()


def read_text(path: Path, where: str) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CardError(f"{where}: {plain(path.name)} has more than {_LARGEST_FILE // 1_000_000} MB")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CardError(f"{where}: cannot read {plain(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CardError(f"{where}: {plain(path.name)} is not UTF-8 text") from error


def card_to_metadata(card: Card) -> dict[str, str]:
    """Return `metadata_props` entries that carry the card inside an ONNX file: `onnxsal.<field>`, values in JSON."""
    return {f"onnxsal.{key}": json.dumps(value) for key, value in card.to_dict().items()}


def card_from_metadata(metadata: Mapping[str, str]) -> Card:
    """Return the card in `onnxsal.*` metadata. Other keys of that prefix belong to compiled explainers and are skipped.

    Raises:
        CardError: If a value is not JSON, or not one that its field allows.
    """
    said = {}
    for key in CHECKS:
        value = metadata.get(f"onnxsal.{key}")
        if value is None:
            continue
        try:
            said[key] = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CardError(f"metadata onnxsal.{key}: {plain(value, 60)!r} is not JSON") from error
    return parse_card(said, "metadata onnxsal.*")
