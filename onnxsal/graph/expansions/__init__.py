"""What composite operators compute, written in standard ones: see `expand`."""

from onnxsal.graph.expansions import quantised as _quantised  # noqa: F401 - fills the table
from onnxsal.graph.expansions.expand import Expanded, expand, expandable

__all__ = ["Expanded", "expand", "expandable"]
