"""Open sessions on graphs whose weights are lent to them: read where they lie, not copied."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, tuple[npt.NDArray[np.generic], int]]
"""Arrays and their ONNX types, by name of initializer. They have to live as long as the session."""

WORTH_LENDING = 1 << 20  # bytes


def open_lending(
    runtime: ModuleType, graph: str | bytes, make_options: Callable[[], Any], providers: Sequence[str], weights: Weights
) -> Any:
    """Open a session of ONNX Runtime.

    Its optimiser does not see what weights are lent: where it wants to know, as it does of convolutions, opening
    fails. So small weights are given away, and all of them if it fails nonetheless; what is given is copied.
    """
    values = {n: runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(a, kind) for n, (a, kind) in weights.items()}
    large = {name for name, (array, _) in weights.items() if array.nbytes >= WORTH_LENDING}

    def opened(lent: Collection[str]) -> Any:
        options = make_options()
        for name in lent:
            options.add_initializer(name, values[name])
        given = [name for name in values if name not in lent]
        options.add_external_initializers(given, [values[name] for name in given])
        return runtime.InferenceSession(graph, options, providers=list(providers))

    try:
        return opened(large)
    except Exception:  # ONNX Runtime's errors share no base class of their own
        return opened(())
