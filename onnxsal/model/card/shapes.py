"""What the inputs' shapes tell: which one takes the image, its layout, its size."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxsal.errors import CardError, UnsupportedModel
from onnxsal.model.card.reading import Draft
from onnxsal.model.card.text import plain

IMAGE_DTYPES = ("uint8", "int8", "float16", "float32", "float64")
# (height, width, channel) axes.
_AXES = {"NCHW": (2, 3, 1), "NHWC": (1, 2, 3)}


@dataclass(frozen=True)
class InputInfo:
    """A model input or output, as the graph declares it.

    Attributes:
        name: The value's name.
        dtype: NumPy's name of the element type, such as "float32".
        shape: One entry per axis: a number, a symbol, or None; None in place of the tuple if even the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    @property
    def shown_shape(self) -> str:
        if self.shape is None:
            return "of unknown rank"
        dims = ["?" if dim is None else plain(dim, 20) for dim in self.shape]
        return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"

    def dim(self, axis: int) -> int | None:
        """Return the length of an axis, or None where it is dynamic."""
        dim = self.shape[axis] if self.shape is not None else None
        return dim if isinstance(dim, int) and dim > 0 else None


def find_image_input(inputs: Sequence[InputInfo], draft: Draft) -> InputInfo:
    """Return the input that `input` of the card names, else the only one that can hold an image.

    Raises:
        CardError: If the card names no input of the model, or one of another shape or type.
        UnsupportedModel: If no input can hold an image, or several can.
    """
    named = draft.get("input")
    if named is not None:
        return _named_input(inputs, named, draft.sources["input"])
    able = [value for value in inputs if _holds_images(value)]
    sure = [value for value in able if value.dim(1) in (1, 3, 4) or value.dim(3) in (1, 3, 4)] or able
    if len(sure) == 1:
        return sure[0]
    listed = ", ".join(f"{plain(v.name, 60)!r} {v.dtype} {v.shown_shape}" for v in inputs[:8]) or "none"
    if not sure:
        raise UnsupportedModel(
            f"no image input: none of the inputs ({listed}) has four axes with 1, 3 or 4 channels and a float, uint8 "
            "or int8 type; onnxsal explains models that take images as (N, C, H, W) or (N, H, W, C)"
        )
    raise UnsupportedModel(
        f"several inputs could take the image ({listed}); name the right one in a card: input = {plain(sure[0].name)!r}"
    )


def _named_input(inputs: Sequence[InputInfo], named: str, source: str) -> InputInfo:
    value = next((value for value in inputs if value.name == named), None)
    if value is None:
        names = ", ".join(repr(plain(v.name, 60)) for v in inputs[:8])
        raise CardError(f"{source}: input = {plain(named, 60)!r} is not an input of the model; these are: {names}")
    if not _holds_images(value):
        raise CardError(
            f"{source}: input {plain(named, 60)!r} is {value.dtype} {value.shown_shape}, which holds no image: "
            "four axes with 1, 3 or 4 channels, float, uint8 or int8"
        )
    return value


def _holds_images(value: InputInfo) -> bool:
    if value.dtype not in IMAGE_DTYPES or value.shape is None or len(value.shape) != 4:
        return False
    return any(value.dim(axis) in (1, 3, 4, None) for axis in (1, 3))


def find_layout(image: InputInfo) -> str:
    """Return the layout that the shape suggests; NCHW where it suggests neither."""
    first, last = image.dim(1), image.dim(3)
    if first in (1, 3, 4):
        return "NCHW"
    return "NHWC" if last in (1, 3, 4) or first is not None else "NCHW"


def channel_count(image: InputInfo, layout: str) -> int | None:
    return image.dim(_AXES[layout][2])


def static_size(image: InputInfo, layout: str) -> tuple[int, int] | None:
    """Return (H, W), or None if either is dynamic."""
    height, width = (image.dim(axis) for axis in _AXES[layout][:2])
    return (height, width) if height and width else None


def class_count(outputs: Sequence[InputInfo], output: str | None) -> int | None:
    """Return K of the model's only output, or the one named: (N, K) or (N, K, 1, 1); None for other shapes."""
    heads = [value for value in outputs if output in (None, value.name)]
    if len(heads) != 1 or heads[0].shape is None:
        return None
    lengths = [heads[0].dim(axis) for axis in range(1, len(heads[0].shape))]
    longer = [length for length in lengths if length != 1]
    return longer[0] if len(longer) == 1 and longer[0] else None
