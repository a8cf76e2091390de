"""The table of methods, which the Python API, the command line, its help and the README read.

A method is a frozen dataclass: its fields are its settings, so they print, compare, hash (the cache
key) and become command-line options.
"""

import dataclasses
import difflib
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from onnxsal.errors import MethodError

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.graph.builder import Op
    from onnxsal.methods.view import View


class Method(Protocol):
    """What turns a model into an explainer graph.

    A method whose attribution has channels may say how its map comes from them, by a method
    `reduce(op, attribution, channel_axis) -> (N, H, W)`; otherwise a pixel shows the largest magnitude
    among its channels.
    """

    def build(self, op: "Op", view: "View") -> "ir.Value":
        """Emit the attribution: signed, one per sample, (N, h, w) or in the shape of the image input."""
        ...


@dataclass(frozen=True)
class MethodInfo:
    """A registered method.

    Attributes:
        name: Its name on the command line, `grad-cam`.
        kind: The dataclass that makes it.
        summary: The first line of its docstring.
        source: The paper, as its docstring cites it.
    """

    name: str
    kind: type[Any]
    summary: str
    source: str

    @property
    def sampled(self) -> bool:
        """Whether it runs the model many times, rather than being one graph."""
        return hasattr(self.kind, "attribute")

    @property
    def asks(self) -> str | None:
        """What it needs of the model, of `classes`, `detections` and `gradient`; None for a method of one graph."""
        asked: str | None = getattr(self.kind, "asks", None)
        return asked

    @property
    def settings(self) -> dict[str, Any]:
        """Default by name of setting."""
        return {f.name: f.default for f in dataclasses.fields(self.kind)}


_METHODS: dict[str, MethodInfo] = {}
Kind = TypeVar("Kind", bound=type[Any])


def method(name: str) -> Callable[[Kind], Kind]:
    """Register the decorated dataclass under `name`."""

    def register(kind: Kind) -> Kind:
        if name in _METHODS:
            raise ValueError(f"there is a method {name!r} already")
        doc = inspect.getdoc(kind) or ""
        _METHODS[name] = MethodInfo(name, kind, doc.partition("\n")[0], _source(doc))
        return kind

    return register


def _source(doc: str) -> str:
    """Return the paper that a docstring's `Source:` names, without what the docstring says about it."""
    said = " ".join(doc.partition("\nSource: ")[2].partition("\n\n")[0].split())
    return re.split(r"[.:] (?=[A-Za-z])", said)[0].rstrip(".")


def methods(*, sampled: bool | None = None) -> Mapping[str, MethodInfo]:
    """Return methods by name, in order of registration.

    Args:
        sampled: True for those that run the model many times, False for those that are one graph; None for all.
    """
    return types.MappingProxyType({k: info for k, info in _METHODS.items() if sampled in (None, info.sampled)})


def find_method(name: str) -> MethodInfo:
    """Return the method of that name.

    Raises:
        MethodError: There is none; the message has the nearest, and all.
    """
    if name in _METHODS:
        return _METHODS[name]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), _METHODS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MethodError(f"no method {name!r}; {hint}there are {', '.join(_METHODS)}")


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """Return the method `name` with the given settings; strings are read as the setting's type.

    Raises:
        MethodError: No such method or setting, or a value that does not fit.
    """
    info = find_method(name)
    unknown = [s for s in settings if s not in info.settings]
    if unknown:
        have = ", ".join(info.settings) or "none"
        raise MethodError(f"{name} has no setting {unknown[0]!r}; its settings are: {have}")
    made: Method = filled(info.kind, name, settings)
    return made


def filled(kind: type[Any], name: str, settings: Mapping[str, Any]) -> Any:
    """Return a dataclass of settings, strings read as the setting's type; errors speak of `name`."""
    hints = get_type_hints(kind)
    return kind(**{s: _read(name, s, value, hints[s]) for s, value in settings.items()})


def method_name(method: Method) -> str:
    """Return the name a method is registered under; of one that is not, its class."""
    return next((info.name for info in _METHODS.values() if isinstance(method, info.kind)), type(method).__name__)


MOST_SAMPLES = 10_000_000
"""A loop keeps four bytes of each perturbation and target."""
MOST_SEED = 2**64 - 1


def check_at_least(made: Any, **least: float) -> None:
    """Refuse settings that are below the least that makes sense, or no numbers; None passes.

    Raises:
        MethodError: One is.
    """
    for setting, bound in least.items():
        value = getattr(made, setting)
        if value is not None and not bound <= value < float("inf"):
            raise MethodError(f"{method_name(made)}: setting {setting}={value} is below {bound}, or no number")


def check_at_most(made: Any, **most: float) -> None:
    """Refuse settings that are above what can be run; None passes.

    Raises:
        MethodError: One is.
    """
    for setting, bound in most.items():
        value = getattr(made, setting)
        if value is not None and value > bound:
            raise MethodError(f"{method_name(made)}: setting {setting}={value} is above {bound}")


def _read(name: str, setting: str, value: Any, hint: Any) -> Any:
    """Return `value` as the setting's type, read from text if need be."""
    options = _options(hint)
    for option in options:
        try:
            return _as_type(value, option)
        except (ValueError, TypeError, OverflowError):
            continue
    wanted = " or ".join(_SPOKEN.get(option, str(option)) for option in options)
    shown = repr(value) if isinstance(value, str | int | float | None) else f"({type(value).__name__})"
    raise MethodError(f"{name}: setting {setting}={shown} is not {wanted}")


_SPOKEN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}


def _options(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return [o for part in get_args(hint) for o in _options(part)]
    return [hint]


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _as_type(value: Any, option: Any) -> Any:
    if option is type(None):
        if value is None or value == "none":
            return None
        raise ValueError(value)
    if option is bool:
        text = str(value).lower()
        return _BOOLEANS[text] if text in _BOOLEANS else _refuse(value)
    if isinstance(option, str):  # one value of a Literal
        return option if value == option else _refuse(value)
    if option is str:
        return value if isinstance(value, str) else _refuse(value)
    if isinstance(value, bool):
        return _refuse(value)
    if option is int and isinstance(value, float) and value != int(value):
        return _refuse(value)
    return option(value)


def _refuse(value: Any) -> Any:
    raise ValueError(value)
