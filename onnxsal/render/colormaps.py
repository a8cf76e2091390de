"""Colour maps as tables of 256 colours, computed: no plotting library is needed for one picture."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import MethodError

Table = npt.NDArray[np.float32]

# Red, green, blue; constant term first.
# Google's Turbo, polynomial by Anton Mikhailov, Apache-2.0.
_TURBO = (
    (0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    (0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    (0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
)
# Matplotlib's inferno (CC0), polynomial fit by Matt Zucker (CC0).
_INFERNO = (
    (0.00021894, 0.10651342, 11.60249308, -41.70399613, 77.16293570, -71.31942825, 25.13112622),
    (0.00165100, 0.56395644, -3.97285397, 17.43639888, -33.40235894, 32.62606426, -12.24266895),
    (-0.01948090, 3.93271239, -15.94239411, 44.35414520, -81.80730926, 73.20951986, -23.07032500),
)
# Blue, white, red; Cynthia Brewer's RdBu, reversed (Apache-2.0).
_BLUE_RED = (
    (0x05, 0x30, 0x61),
    (0x21, 0x66, 0xAC),
    (0x43, 0x93, 0xC3),
    (0x92, 0xC5, 0xDE),
    (0xD1, 0xE5, 0xF0),
    (0xF7, 0xF7, 0xF7),
    (0xFD, 0xDB, 0xC7),
    (0xF4, 0xA5, 0x82),
    (0xD6, 0x60, 0x4D),
    (0xB2, 0x18, 0x2B),
    (0x67, 0x00, 0x1F),
)


def colour(values: npt.NDArray[Any], colormap: str) -> npt.NDArray[np.float32]:
    """Return the colours of values: (...,) to (..., 3), in [0, 1].

    Args:
        values: In [0, 1]; for "diverging" in [-1, 1], with 0 in the middle.
        colormap: One of `COLORMAPS`.

    Raises:
        MethodError: For an unknown colour map.
    """
    if colormap not in COLORMAPS:
        raise MethodError(f"no colour map {colormap!r}; there are {', '.join(COLORMAPS)}")
    unit = (values + 1) / 2 if colormap == "diverging" else values
    return _table(colormap)[np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)]


@cache
def _table(colormap: str) -> Table:
    unit = np.linspace(0, 1, 256)
    rgb = np.stack(COLORMAPS[colormap](unit), axis=1)
    table: Table = np.clip(rgb, 0, 1).astype(np.float32)
    table.flags.writeable = False
    return table


def _polynomial(coefficients: tuple[tuple[float, ...], ...]) -> Any:
    return lambda unit: [np.polynomial.polynomial.polyval(unit, terms) for terms in coefficients]


def _jet(unit: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    return [1.5 - np.abs(4 * unit - centre) for centre in (3, 2, 1)]


def _diverging(unit: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    anchors = np.array(_BLUE_RED) / 255
    return [np.interp(unit, np.linspace(0, 1, len(anchors)), anchors[:, channel]) for channel in range(3)]


def _gray(unit: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    return [unit, unit, unit]


COLORMAPS = {
    "turbo": _polynomial(_TURBO),
    "inferno": _polynomial(_INFERNO),
    "jet": _jet,
    "gray": _gray,
    "diverging": _diverging,
}
