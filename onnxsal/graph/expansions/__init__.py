"""What composite operators compute, written in standard ones: see `expand`."""

from onnxsal.graph.expansions import fused as _fused  # noqa: F401 - fills the table
from onnxsal.graph.expansions import quantised as _quantised  # noqa: F401 - fills the table
from onnxsal.graph.expansions.expand import Expanded, expand, expandable, is_foreign

__all__ = ["Expanded", "expand", "expandable", "is_foreign"]
