"""Files beside the model that describe it: the sidecar, Hugging Face's and timm's JSON, `labels.txt`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxsal.errors import CardError
from onnxsal.model.card.files import read_card, read_labels, read_text
from onnxsal.model.card.hugging_face import read_config, read_preprocessor
from onnxsal.model.card.reading import Reading
from onnxsal.model.card.text import plain


def read_sidecar(model: Path) -> Reading | None:
    """Return what `NAME.toml` beside `NAME.onnx` says, or None without one.

    Raises:
        CardError: If the file is no card, or names a label file outside its folder: who downloads a model folder has
            not agreed to have other files read.
    """
    path = model.with_suffix(".toml")
    if not path.is_file():
        return None
    where = f"sidecar {plain(path.name)}"
    return Reading(where, read_card(path, where=where, confined=True).said())


def read_neighbours(model: Path) -> Iterator[Reading]:
    """Yield what the other files beside the model say, the most telling first.

    Exports for browsers keep the model in a folder `onnx/` below its configuration; that one is looked at too.
    """
    folders = [model.parent] + ([model.parent.parent] if model.resolve().parent.name == "onnx" else [])
    for name, read in (("preprocessor_config.json", read_preprocessor), ("config.json", read_config)):
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        reading = _read_json(path, read) if path else None
        if reading:
            yield reading
    labels = model.parent / "labels.txt"
    if labels.is_file():
        yield _read_labels(labels)


def _read_labels(path: Path) -> Reading:
    try:
        return Reading(path.name, {"labels": tuple(read_labels(path, path.name)) or None})
    except CardError as error:
        return Reading(path.name, {}, (f"{error}; ignored",))


def _read_json(path: Path, read: Callable[[dict[str, Any], str], Reading | None]) -> Reading | None:
    try:
        config = json.loads(read_text(path, path.name))
    except (CardError, ValueError, RecursionError):
        return Reading(path.name, {}, ("not JSON; ignored",))
    return read(config, path.name) if isinstance(config, dict) else None
