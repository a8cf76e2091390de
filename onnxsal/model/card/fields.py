"""The card's fields, and what each may hold.

Wherever a card was read, the same table of checks runs, and what does not pass is a `CardError` that names the place,
the key, the value and what is allowed.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxsal.errors import CardError
from onnxsal.model.card.text import plain

TASKS = ("classification", "detection", "segmentation", "pose", "embedding")
LAYOUTS = ("NCHW", "NHWC")
RESIZES = ("stretch", "shortest_edge", "letterbox", "top_left_pad", "fit_height", "none")
ROUNDINGS = ("torchvision", "transformers", "nearest")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CHANNELS = ("RGB", "BGR", "GRAY", "RGBA", "BGRA")


@dataclass(frozen=True)
class Card:
    """What an ONNX file does not say. None always means "not said".

    A pixel p in 0..255 becomes (p * scale - mean) / std, channel by channel.

    Attributes:
        task: One of `TASKS`.
        input: Name of the image input.
        output: Name of the output with the classes.
        layout: "NCHW" or "NHWC".
        size: (H, W) of the model's input.
        resize: How the photo comes to that size. "stretch" ignores the aspect ratio; "shortest_edge" keeps it and fills
            the input, what sticks out is cut; "letterbox" keeps it and pads both sides alike; "top_left_pad" keeps it
            and pads right and below; "fit_height" resizes to the full height and pads right, stretching only what would
            be too wide (lines of text); "none" takes the photo as it is.
        resize_to: Shorter side in pixels before a centre crop, for "shortest_edge" and "stretch"; None cuts no more
            than the aspect ratio asks for, and does so before resizing.
        crop: "center", the only crop there is: what sticks out is cut alike on both sides.
        rounding: How `resize_to` comes to whole pixels, which moves the crop by one, and scores in the first
            decimal. The longer side and half of what is cut: "torchvision" truncates, rounds half to even;
            "transformers" truncates both; "nearest" rounds, truncates. None counts as "torchvision".
        interpolation: One of `INTERPOLATIONS`; always with antialiasing, as Pillow and torchvision do.
        pad_value: What fills the padding, in 0..255, before normalisation.
        scale: Factor on pixels, for instance 1/255.
        mean: One number, or one per channel in the order of `channels`; subtracted after scaling.
        std: As `mean`; divides last.
        channels: Channel order of the model's input.
        labels: One name per class. The background class of `background` is not among them.
        background: True if class 0 is "background" and class k has label k - 1.
    """

    task: str | None = None
    input: str | None = None
    output: str | None = None
    layout: str | None = None
    size: tuple[int, int] | None = None
    resize: str | None = None
    resize_to: int | None = None
    crop: str | None = None
    rounding: str | None = None
    interpolation: str | None = None
    pad_value: float | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    labels: tuple[str, ...] | None = None
    background: bool | None = None

    def __post_init__(self) -> None:
        for name, value in checked({f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, "card").items():
            object.__setattr__(self, name, value)

    @property
    def channel_axis(self) -> int:
        """The axis of the model's input, (N, C, H, W) or (N, H, W, C), that holds the channels."""
        return 3 if self.layout == "NHWC" else 1

    @property
    def classes(self) -> int | None:
        """How many classes the labels are of, the background among them; None without labels."""
        return None if self.labels is None else len(self.labels) + bool(self.background)

    def label_of(self, index: int) -> str:
        """Return the label of class `index`, or "class 7" where the card has none for it."""
        if self.background and index == 0:
            return "background"
        position = index - 1 if self.background else index
        if self.labels is None or not 0 <= position < len(self.labels):
            return f"class {index}"
        return self.labels[position] or f"class {index}"

    def said(self) -> dict[str, Any]:
        """Return the fields that say something."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {key: value for key, value in fields.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that say something, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.said().items()}


def parse_card(said: Mapping[str, Any], where: str) -> Card:
    """Return the card that a mapping describes.

    Raises:
        CardError: For an unknown key or a value outside those allowed; `where` opens the message.
    """
    for key in said:
        if key not in CHECKS:
            near = _closest(str(key), CHECKS)
            hint = f"did you mean {near!r}?" if near else f"a card knows {', '.join(CHECKS)}"
            raise CardError(f"{where}: unknown key {plain(key, 60)!r}; {hint}")
    return Card(**checked(said, where))


# ----- Checks: each returns the value in the card's own type, or raises ValueError saying what is allowed -----


def checked(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values that were said, each in the type of its field."""
    values = {}
    for key, value in said.items():
        if value is None:
            continue
        try:
            values[key] = CHECKS[key](value)
        except ValueError as error:
            raise CardError(f"{where}: {key} = {plain(repr(value), 60)} is not {error}") from error
    return values


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        for candidate in allowed:
            if isinstance(value, str) and value.casefold() == candidate.casefold():
                return candidate
        hint = _closest(str(value), allowed)
        raise ValueError(f"one of {', '.join(allowed)}" + (f"; did you mean {hint!r}?" if hint else ""))

    return check


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise ValueError("a finite number")
    return float(value)


def _positive(value: Any) -> float:
    if _number(value) <= 0:
        raise ValueError("a number above 0")
    return float(value)


def _pixel(value: Any) -> float:
    if not 0 <= _number(value) <= 255:
        raise ValueError("a number from 0 to 255")
    return float(value)


def _side(value: Any) -> int:
    # The upper end only keeps a typing error from asking for terabytes.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 16384:
        raise ValueError("a whole number of pixels from 1 to 16384")
    return value


def _size(value: Any) -> tuple[int, int]:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError("[height, width] in pixels")
    return _side(pair[0]), _side(pair[1])


def _per_channel(element: Callable[[Any], float]) -> Callable[[Any], tuple[float, ...]]:
    def check(value: Any) -> tuple[float, ...]:
        numbers = value if isinstance(value, list | tuple) else (value,)
        if len(numbers) not in (1, 3, 4):
            raise ValueError("one number, or one per channel")
        return tuple(element(number) for number in numbers)

    return check


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the name of a value of the graph")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _labels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value:
        raise ValueError("a list of names, one per class")
    if not all(isinstance(label, str) for label in value):
        raise ValueError("a list of names: each in quotes")
    return tuple(plain(label) for label in value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "task": _one_of(*TASKS),
    "input": _name,
    "output": _name,
    "layout": _one_of(*LAYOUTS),
    "size": _size,
    "resize": _one_of(*RESIZES),
    "resize_to": _side,
    "crop": _one_of("center"),
    "rounding": _one_of(*ROUNDINGS),
    "interpolation": _one_of(*INTERPOLATIONS),
    "pad_value": _pixel,
    "scale": _positive,
    "mean": _per_channel(_number),
    "std": _per_channel(_positive),
    "channels": _one_of(*CHANNELS),
    "labels": _labels,
    "background": _flag,
}


def _closest(word: str, known: Iterable[str]) -> str | None:
    # Imported here because only mistakes need it.
    import difflib

    return next(iter(difflib.get_close_matches(word, known, n=1)), None)
