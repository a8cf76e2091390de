"""What one source says, and how sources add up to a card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxsal.model.card.fields import Card

# A source that says how photos are resized says it whole: a crop out of another source would not belong to it.
_SPOKEN_FOR = {"resize": ("resize_to", "crop", "rounding")}


@dataclass(frozen=True)
class Reading:
    """What one source says.

    Attributes:
        where: The source's name, as `inspect` shows it.
        fields: Card fields and their values; None means not said.
        notes: What the source says but onnxsal cannot use, one sentence each.
    """

    where: str
    fields: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass
class Draft:
    """A card in the making: the first source to name a field wins.

    Attributes:
        fields: Value by field.
        sources: Name of the source by field.
        notes: What sources say that could not be used.
        closed: Fields that later sources may not name any more, as they belong to one that is named.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)

    def add(self, reading: Reading) -> None:
        """Take what earlier sources left open."""
        new = {key: value for key, value in reading.fields.items() if value is not None and self.open(key)}
        for key, value in new.items():
            self.fields[key], self.sources[key] = value, reading.where
            self.closed.update(_SPOKEN_FOR.get(key, ()))
        self.notes.extend(f"{reading.where}: {note}" for note in reading.notes)

    def open(self, key: str) -> bool:
        return key not in self.fields and key not in self.closed

    def get(self, key: str) -> Any:
        return self.fields.get(key)

    def drop(self, key: str, note: str) -> None:
        """Take back a field that cannot be true of this model, saying why."""
        self.notes.append(f"{self.sources.pop(key)}: {note}")
        del self.fields[key]

    def card(self) -> Card:
        return Card(**self.fields)
