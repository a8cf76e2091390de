"""Ask every source for the card, first come first served, and guess the rest."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from onnxsal.errors import CardError
from onnxsal.model.card.denotation import read_denotation
from onnxsal.model.card.fields import CHECKS, Card, parse_card
from onnxsal.model.card.files import card_from_metadata, read_card
from onnxsal.model.card.guess import SIMPLEST, UNUSED, USUAL_RANGE, guesses
from onnxsal.model.card.model_api import read_model_api
from onnxsal.model.card.neighbours import read_neighbours, read_sidecar
from onnxsal.model.card.reading import Draft, Reading
from onnxsal.model.card.shapes import (
    InputInfo,
    channel_count,
    class_count,
    find_image_input,
    find_layout,
    static_size,
)
from onnxsal.model.card.text import plain
from onnxsal.model.card.ultralytics import read_ultralytics

_PIXELS = ("scale", "mean", "std")
_CHANNEL_COUNTS = {"GRAY": 1, "RGB": 3, "BGR": 3, "RGBA": 4, "BGRA": 4}


@dataclass(frozen=True)
class ResolvedCard:
    """A card without gaps in what preprocessing needs, and where each value came from.

    Attributes:
        card: The card. Only task, output, labels, resize_to, crop and background may still be unsaid.
        image: The input that takes the image.
        sources: Field to source, such as "sidecar squeezenet.toml" or "guess from shape (1, 3, 224, 224)".
        notes: What a source said that could not be used, one sentence each.
    """

    card: Card
    image: InputInfo
    sources: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def guesses(self) -> tuple[str, ...]:
        """The fields that were guessed, in the card's order."""
        return tuple(key for key in CHECKS if self.sources.get(key, "").startswith("guess"))

    @property
    def blind(self) -> frozenset[str]:
        """The fields whose values nothing of the model speaks for: how pixels are scaled, and how photos are resized.

        What of a colour comes first is among them where it is guessed for three channels.
        """
        found = set(_PIXELS) if all(self.sources.get(key) == USUAL_RANGE for key in _PIXELS) else set()
        if self.sources.get("resize") == SIMPLEST:
            found |= {"resize"} if self.sources.get("pad_value") != UNUSED else {"resize", "pad_value"}
        if "channels" in self.guesses and self.card.channels == "RGB":
            found.add("channels")
        return frozenset(found)

    def guessing(self, where: str, fields: Mapping[str, Any]) -> "ResolvedCard":
        """Return it with these values for those of its `blind` fields.

        Args:
            where: What speaks for them; begins with "guess".
            fields: Values by field.
        """
        better = {key: value for key, value in fields.items() if key in self.blind}
        by_channel = any(len(better.get(key, ())) > 1 for key in ("mean", "std"))
        if by_channel and better.get("channels", self.card.channels) != fields.get("channels"):
            better = {key: value for key, value in better.items() if key not in _PIXELS}
        sources = MappingProxyType({**self.sources, **dict.fromkeys(better, where)})
        return replace(self, card=replace(self.card, **better), sources=sources)

    @property
    def said_task(self) -> str | None:
        """What some source says that the model does; None where that is only guessed."""
        return None if "task" in self.guesses else self.card.task


def resolve_card(
    inputs: Sequence[InputInfo],
    outputs: Sequence[InputInfo],
    metadata: Mapping[str, str],
    path: Path | None = None,
    override: Card | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
) -> ResolvedCard:
    """Return the card of a model.

    Sources, the first that names a field wins: `override`; the sidecar `NAME.toml`; `onnxsal.*` metadata; OpenVINO
    model_api, Ultralytics and ONNX image metadata; Hugging Face and timm JSON and `labels.txt` beside the model; a
    guess from shapes. Files of other projects never fail: what cannot be used of them becomes a note.

    Args:
        inputs: The model's inputs, without initializers.
        outputs: The model's outputs.
        metadata: The model's `metadata_props`.
        path: The model's file; None if it has none.
        override: A card, a mapping with its fields, or the path of a TOML file.
        facts: What the file shows, each key optional: "classes" (int), "layout" ("NCHW" or "NHWC"), "normalises" (True
            if the graph scales its input itself), "producer" (what wrote the file).

    Raises:
        CardError: If an own source is malformed, or what was said does not fit the model's input.
        UnsupportedModel: If no input takes an image.
    """
    facts = facts or {}
    draft = Draft()
    for reading in _sources(metadata, path, override):
        draft.add(reading)
    image = find_image_input(inputs, draft)
    draft.add(Reading("the model's only image input", {"input": image.name}))
    _add_shape(draft, image, facts.get("layout"))
    classes = facts.get("classes") or class_count(outputs, draft.get("output"))
    _drop_foreign_labels(draft, classes)
    for guess in guesses(draft, image, classes, bool(facts.get("normalises")), str(facts.get("producer", ""))):
        draft.add(guess)
    _check_channels(draft, image)
    return ResolvedCard(draft.card(), image, MappingProxyType(draft.sources), tuple(draft.notes))


def _sources(metadata: Mapping[str, str], path: Path | None, override: Any) -> Iterator[Reading]:
    if override is not None:
        yield _read_override(override)
    sidecar = read_sidecar(path) if path is not None else None
    if sidecar:
        yield sidecar
    yield Reading("metadata onnxsal.*", card_from_metadata(metadata).said())
    for read in (read_model_api, read_ultralytics, read_denotation):
        reading = read(metadata)
        if reading:
            yield _sifted(reading)
    for reading in read_neighbours(path) if path is not None else ():
        yield _sifted(reading)


def _read_override(override: Card | Mapping[str, Any] | str | os.PathLike[str]) -> Reading:
    if isinstance(override, Card):
        return Reading("argument", override.said())
    if isinstance(override, Mapping):
        return Reading("argument", parse_card(override, "card argument").said())
    if isinstance(override, str | os.PathLike):
        where = f"card {plain(Path(override).name)}"
        return Reading(where, read_card(override, where=where).said())
    raise CardError(f"card must be a Card, a mapping or the path of a .toml file, not {type(override).__name__}")


def _sifted(reading: Reading) -> Reading:
    """Return what a stranger's file says, less the values that no card could hold."""
    fields, notes = {}, list(reading.notes)
    for key, value in reading.fields.items():
        try:
            fields[key] = CHECKS[key](value) if value is not None else None
        except ValueError as error:
            notes.append(f"{key} = {plain(repr(value), 60)} is not {error}; ignored")
    return Reading(reading.where, fields, tuple(notes))


def _add_shape(draft: Draft, image: InputInfo, layout: str | None) -> None:
    """Take layout and size from the graph, which outranks what other projects' files say of the size."""
    draft.add(Reading("the graph", {"layout": layout}))
    draft.add(Reading(f"guess from shape {image.shown_shape}", {"layout": find_layout(image)}))
    size = static_size(image, draft.get("layout"))
    if size is None:
        return
    said = draft.get("size")
    if said is not None and said != size:
        own = draft.sources["size"].startswith(("argument", "card", "sidecar", "metadata onnxsal"))
        if own:
            raise CardError(_does_not_fit(draft, image, "size", f"only takes {list(size)}"))
        draft.drop("size", f"size {list(said)} is not the model's {list(size)}; ignored")
    draft.add(Reading(f"shape {image.shown_shape}", {"size": size}))


def _drop_foreign_labels(draft: Draft, classes: int | None) -> None:
    """Leave out labels of a neighbouring file that cannot be this model's; a folder may hold several models."""
    labels = draft.get("labels")
    neighbour = draft.sources.get("labels") in ("labels.txt", "config.json")
    if labels is not None and neighbour and classes is not None and not 0 <= classes - len(labels) <= 1:
        draft.drop("labels", f"{len(labels)} labels are not for a model of {classes} classes; ignored")


def _check_channels(draft: Draft, image: InputInfo) -> None:
    count = channel_count(image, draft.get("layout"))
    expected = _CHANNEL_COUNTS[draft.get("channels")]
    if count is not None and count not in (1, 3, 4):
        raise CardError(_does_not_fit(draft, image, "layout", f"would then have {count} channels"))
    if count is not None and count != expected:
        raise CardError(_does_not_fit(draft, image, "channels", f"has {count} channels"))
    for key in ("mean", "std"):
        if len(draft.get(key)) not in (1, expected):
            raise CardError(_does_not_fit(draft, image, key, f"takes {expected} channels"))


def _does_not_fit(draft: Draft, image: InputInfo, key: str, because: str) -> str:
    value = draft.get(key)
    shown = list(value) if isinstance(value, tuple) else value
    return (
        f"{draft.sources[key]}: {key} = {shown!r} does not fit input {plain(image.name, 60)!r} of shape "
        f"{image.shown_shape}, which {because}; say {key} in a card beside the model, or by --card"
    )
