"""Which methods were asked for, each with the options that are its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsal.errors import MethodError
from onnxsal.methods import MethodInfo, find_method, make_method, methods
from onnxsal.methods.finding import FINDING, Finding, find_like, separate
from onnxsal.methods.presets import with_preset
from onnxsal.methods.registry import Method


@dataclass(frozen=True)
class Choice:
    """A method and what it is given.

    Attributes:
        name: The method's name.
        options: `layer` and settings, those that the method has, and how detections are found.
        like: The library whose conventions are taken.
    """

    name: str
    options: Mapping[str, Any]
    like: str | None = None

    @property
    def method(self) -> Method:
        """The method with its settings.

        Raises:
            MethodError: No such setting or preset, or a value that does not fit.
        """
        own, _ = separate(self.name, self.options)
        return make_method(self.name, with_preset(self.like, self.name, own))

    @property
    def finding(self) -> Finding:
        """How detections are found, should they be what is explained.

        Raises:
            MethodError: A value does not fit.
        """
        return find_like(self.method, separate(self.name, self.options)[1])

    @property
    def asks(self) -> str | None:
        """What a method of many runs needs of the model; None for a method of one."""
        return find_method(self.name).asks


def choose(
    names: Iterable[str], layer: str | None, settings: Mapping[str, str], like: str | None = None
) -> list[Choice]:
    """Return the methods; each gets what it has of the layer and the settings.

    Raises:
        MethodError: No such method or setting, a setting that none of the methods has, a value that does not fit, or
            a preset without the method.
    """
    infos = [find_method(name) for name in dict.fromkeys(names)]
    if layer is not None:
        _check_layer(infos)
    given = dict(settings) | ({} if layer is None else {"layer": layer})
    if len(infos) == 1:  # what it does not have, it refuses itself
        choices = [Choice(infos[0].name, given, like)]
    else:
        _check_settings(infos, given)
        choices = [
            Choice(i.name, {k: v for k, v in given.items() if k in i.settings or k in FINDING}, like) for i in infos
        ]
    for choice in choices:
        assert choice.method  # made for its errors
        assert choice.finding
    return choices


def check_loops(choices: Sequence[Choice], checkpoint: Path | None) -> None:
    """Refuse options of loops where none is run.

    Raises:
        MethodError: They do not go together.
    """
    asked = {choice.asks for choice in choices}
    if checkpoint is None:
        return
    if asked == {None}:
        raise MethodError(f"--checkpoint: {', '.join(c.name for c in choices)} is one run, with nothing to write down")
    if len(choices) > 1:
        raise MethodError("--checkpoint: a file holds one method: explain with them one by one")


def _check_layer(infos: Sequence[MethodInfo]) -> None:
    if not any("layer" in info.settings for info in infos):
        takers = ", ".join(name for name, info in methods().items() if "layer" in info.settings)
        raise MethodError(f"-l: no layer for {_listed(infos)}; the methods that take one: {takers}")


def _check_settings(infos: Sequence[MethodInfo], given: Iterable[str]) -> None:
    for key in given:
        if key not in FINDING and not any(key in info.settings for info in infos):
            raise MethodError(f"--set: no setting {key!r} in {_listed(infos)}; `onnxsal methods` lists them")


def _listed(infos: Sequence[MethodInfo]) -> str:
    return ", ".join(info.name for info in infos)
