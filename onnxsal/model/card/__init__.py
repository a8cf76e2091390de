"""The card: what an ONNX file does not say about its image input, its classes and its task.

`fields` is the card itself, `resolve` asks the sources one after the other, and every other file here is one source.
"""

from onnxsal.model.card.fields import Card, parse_card
from onnxsal.model.card.files import card_from_metadata, card_to_metadata, read_card
from onnxsal.model.card.resolve import ResolvedCard, resolve_card
from onnxsal.model.card.shapes import InputInfo
from onnxsal.model.card.text import plain, slug

__all__ = [
    "Card",
    "InputInfo",
    "ResolvedCard",
    "card_from_metadata",
    "card_to_metadata",
    "parse_card",
    "plain",
    "read_card",
    "resolve_card",
    "slug",
]
