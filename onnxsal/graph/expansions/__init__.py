"""What composite operators compute, written in standard ones: see `expand`."""

from onnxsal.graph.expansions import attention as _attention  # noqa: F401 - fills the table
from onnxsal.graph.expansions import blocks as _blocks  # noqa: F401 - fills the table
from onnxsal.graph.expansions import embedding as _embedding  # noqa: F401 - fills the table
from onnxsal.graph.expansions import fused as _fused  # noqa: F401 - fills the table
from onnxsal.graph.expansions import quantised as _quantised  # noqa: F401 - fills the table
from onnxsal.graph.expansions.expand import Expanded, expand, expandable, is_foreign

__all__ = ["Expanded", "expand", "expandable", "is_foreign"]
