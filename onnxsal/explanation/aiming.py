"""Point a method of one graph at one detection: its proposal, its class, and the level of the pyramid it comes from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detections
from onnxsal.explanation.compiled import CompiledExplainer, Compiler, Loop
from onnxsal.methods.registry import Method
from onnxsal.targets import Form

if TYPE_CHECKING:
    from onnxsal.methods.detector import Reading

Array = npt.NDArray[Any]


def one_box(
    compiler: Compiler,
    found: Detections,
    reading: "Reading",
    number: int,
    method: Method,
    part: str,
    feeds: Mapping[str, Array],
    *,
    batched: bool = False,
    loop: Loop | None = None,
    bare: bool = False,
) -> tuple[Method, CompiledExplainer, dict[str, Array]]:
    """Return the method at the detection's layer, its explainer, and what this is fed beside the image: (1,) each.

    Args:
        compiler: Of the model.
        found: The detections.
        reading: How they were read.
        number: Which of them.
        method: The method.
        part: Of the detection: `score`, or a side of its box.
        feeds: The photo and the model's other inputs.
        batched: As for `Compiler.explainer`.
        loop: Likewise.
        bare: Likewise.
    """
    place = np.array([found.places[number]], np.int64)
    aim = {"target": place, "target_class": np.array([found.classes[number] - found.first_class], np.int64)}
    own = method
    if _wants_layer(method):
        layer = layer_of(compiler, reading, int(place[0]), batched=batched)
        layer = layer or _by_gradient(compiler, reading, aim | dict(feeds), batched=batched)
        own = _at(method, layer)
    explainer = compiler.explainer(own, Form("box", part=part), reading, batched=batched, loop=loop, bare=bare)
    return own, explainer, aim if part == "score" else {"target": place}


def at_last_level(compiler: Compiler, reading: "Reading", method: Method) -> Method:
    """Return a method at the layer of the coarsest level, for a graph that is made before there is a detection.

    A layer that the user names stays, and so does a method that takes none.
    """
    if not _wants_layer(method):
        return method
    layers = [layer for *_, layer in compiler.detector(reading).facts["levels"] if layer is not None]
    layers = layers or compiler.origin(reading).facts["layers"]
    return _at(method, layers[-1]) if layers else method


def _wants_layer(method: Method) -> bool:
    return getattr(method, "layer", "none taken") is None


def _at(method: Method, layer: str | None) -> Method:
    return replace(method, layer=layer)  # type: ignore[type-var]  # methods are dataclasses


def layer_of(compiler: Compiler, reading: "Reading", place: int, *, batched: bool) -> str | None:
    """Return the layer behind the level that a proposal belongs to; None where there are no levels."""
    for *_, count, layer in compiler.detector(reading, batched=batched).facts["levels"]:
        if place < count:
            return None if layer is None else str(layer)
        place -= count
    return None


def _by_gradient(compiler: Compiler, reading: "Reading", feeds: dict[str, Array], *, batched: bool) -> str | None:
    """Return the layer that a proposal's score changes with most; None where it depends on none smoothly."""
    origin = compiler.origin(reading, batched=batched)
    layers = origin.facts["layers"]
    if not layers:
        return None
    (shares,) = origin.session.run(feeds).values()
    return str(layers[int(shares.argmax())])
