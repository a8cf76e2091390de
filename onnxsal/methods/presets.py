"""Other libraries' conventions, as settings: what `like="captum"` and `--like captum` stand for.

Each preset holds the methods that its library has too, with the settings that make onnxsal's attribution the library's.
tests/parity runs the libraries beside onnxsal; what a setting cannot bring about is said there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from onnxsal.errors import MethodError


@dataclass(frozen=True)
class Preset:
    """One library.

    Attributes:
        library: Whose conventions these are.
        methods: Settings by name of method, those that differ from onnxsal's own.
    """

    library: str
    methods: Mapping[str, Mapping[str, Any]]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "captum": Preset(
            "captum 0.9",
            {
                "gradient": {"absolute": True},
                "grad-x-input": {},
                "guided-backprop": {},
                "deconvnet": {},
                "grad-cam": {"relu": False},
                "guided-grad-cam": {"interpolation": "nearest"},
                # NoiseTunnel's deviation is in units of the input, not of its range.
                "smoothgrad": {"samples": 5, "noise": 1.0, "scale": "unit"},
                "integrated-gradients": {"steps": 50, "quadrature": "gauss-legendre", "baseline": "zero"},
                # captum asks for the window; its strides are 1 unless given.
                "occlusion": {"stride": 1, "fill": "zero", "normalisation": "windows"},
            },
        ),
        "pair": Preset(
            "PAIR's saliency 0.2",
            {
                "gradient": {},
                "grad-cam": {},
                "smoothgrad": {"samples": 25, "noise": 0.15, "scale": "range", "variant": "squared"},
                "integrated-gradients": {"steps": 25, "quadrature": "riemann-inclusive", "baseline": "zero"},
                "occlusion": {"window": 15, "stride": 1, "fill": "zero", "normalisation": "none"},
            },
        ),
        "torchray": Preset(
            "TorchRay 1.0",
            {
                "gradient": {},
                "deconvnet": {},
                # Where a rectifier's input is exactly 0, TorchRay lets the gradient pass.
                "guided-backprop": {},
                "grad-cam": {},
                "rise": {
                    "samples": 8000,
                    "cells": 7,
                    "keep": 0.5,
                    "estimator": "paper",
                    "edges": "padded",
                    "score": "sigmoid",
                    "normalisation": "samples",
                    "fill": "zero",
                },
            },
        ),
        "eclique": Preset(
            "RISE's authors (eclique/RISE)",
            {
                # Numbers of their notebook Saliency; Easy_start has 2000, 8 and 0.5, Evaluation 5000, 10 and 0.1.
                "rise": {
                    "samples": 6000,
                    "cells": 8,
                    "keep": 0.1,
                    "estimator": "paper",
                    "edges": "bilinear",
                    "score": "probability",
                    "normalisation": "keep",
                    "fill": "zero",
                }
            },
        ),
        "vem": Preset(
            "vision-explanation-methods 0.1",
            {
                # It leaves the number of masks to the caller; its DRISE_runner has 25, of 4 x 4 cells.
                "d-rise": {
                    "cells": 16,
                    "keep": 0.5,
                    "estimator": "centred",
                    "edges": "nearest",
                    "similarity": "vem",
                    "proposals": "final",
                    "normalisation": "min-max",
                    "fill": "black",
                }
            },
        ),
    }
)


def with_preset(like: str | None, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's settings under a preset; what is given wins.

    Args:
        like: Name of the preset; None is none.
        method: Name of the method.
        given: Settings that the user says.

    Raises:
        MethodError: There is no such preset, or its library has no such method.
    """
    if like is None:
        return dict(given)
    own = find_preset(like).methods
    if method not in own:
        raise MethodError(f"like={like} has no {method}; it has {', '.join(own)}")
    settings = {**own[method], **given}
    if method == "smoothgrad":
        settings["base"] = _based(own, str(settings.get("base", "gradient")))
    return settings


def find_preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        MethodError: There is none.
    """
    if name not in PRESETS:
        raise MethodError(f"no preset like={name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _based(own: Mapping[str, Mapping[str, Any]], base: str) -> str:
    """Return SmoothGrad's base with the settings that the preset has for it before those that are given."""
    name, _, given = base.partition(",")
    said = {part.partition("=")[0].strip() for part in given.split(",")}
    added = [f"{key}={str(value).lower()}" for key, value in own.get(name.strip(), {}).items() if key not in said]
    return ",".join([name, *added, *([given] if given else [])])
