"""Open sessions on graphs whose weights are lent to them: read where they lie, not copied."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, tuple[npt.NDArray[np.generic], int]]
"""Arrays and their ONNX types, by name of initializer. They have to live as long as the session."""

WORTH_LENDING = 1 << 20  # bytes
FATAL = 4


def open_lending(
    runtime: ModuleType, graph: str | bytes, make_options: Callable[[], Any], providers: Sequence[str], weights: Weights
) -> Any:
    """Open a session of ONNX Runtime.

    Its optimiser does not see what weights are lent, and opening fails where it wants to know, as for computing
    what is constant ahead. So small weights are given away, which is to copy them; if it fails nonetheless nothing
    is computed ahead; and if it fails still, all weights are given.
    """
    values = {n: runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(a, kind) for n, (a, kind) in weights.items()}
    lent = {name for name, (array, _) in weights.items() if array.nbytes >= WORTH_LENDING}

    def opened(lent: set[str], disabled: list[str], severity: int | None = None) -> Any:
        options = make_options()
        if severity is not None:
            options.log_severity_level = severity
        for name in lent:
            options.add_initializer(name, values[name])
        given = [name for name in values if name not in lent]
        options.add_external_initializers(given, [values[name] for name in given])
        return runtime.InferenceSession(graph, options, providers=list(providers), disabled_optimizers=disabled)

    for disabled in ([], ["ConstantFolding"]):
        with suppress(Exception):  # ONNX Runtime's errors share no base class of their own
            return opened(lent, disabled, FATAL)
    return opened(set(), [])
