"""How detections are found: settings of every method, where what it explains is a detection."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from onnxsal.methods.registry import Method, check_at_least, filled, find_method, method_name


@dataclass(frozen=True)
class Finding:
    """How detections are found.

    Attributes:
        threshold: Score from which a detection counts.
        overlap: Intersection over union above which the surer of two boxes of a class removes the other; None is 0.5,
            and nothing more of heads that have suppressed already, or that find each object once.
        decoder: Name of the decoder of the head; None recognises it.
    """

    threshold: float = 0.3
    overlap: float | None = None
    decoder: str | None = None

    def __post_init__(self) -> None:
        check_at_least(self, threshold=0, overlap=0)


FINDING = frozenset(f.name for f in fields(Finding))


def separate(method: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a method's own settings, and those that say how detections are found; some methods have these, too."""
    own = find_method(method).settings
    found = {key: value for key, value in settings.items() if key in FINDING}
    return {key: value for key, value in settings.items() if key in own or key not in FINDING}, found


def find_like(method: Method, settings: Mapping[str, Any]) -> Finding:
    """Return how detections are found for a method, some of which say it themselves; strings are read as their type.

    Raises:
        MethodError: A value does not fit.
    """
    own = {key: getattr(method, key) for key in FINDING if hasattr(method, key)}
    made: Finding = filled(Finding, method_name(method), {**settings, **own})
    return made
