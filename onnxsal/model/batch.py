"""Make a model that was exported for one sample take any number of them.

The batch of one is written into constants of the graph: shapes of Reshape, sizes of Resize, a class
token that is concatenated. Which axis of a value the samples lie on is found by giving the graph two
of them and following the shapes; where they cannot be followed, nothing is made. Even then a graph
could run and mix samples up, so `rows_agree` decides.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onnxsal.graph.batch import SAMPLES, BatchPatch
from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.inference import infer_shapes
from onnxsal.graph.shapes import Shape, Shapes
from onnxsal.graph.types import Dim, dims

Arrays = Sequence[NDArray[Any]]

NAME = "batch"
SIDE = 224
"""Stands for a dynamic height or width."""


def make_batch_dynamic(model: ir.Model) -> ir.Model | None:
    """Return a copy of a model in canonical form that takes any number of samples; None if none can be made.

    Every input whose first of several dimensions is 1 gets a symbolic one, and so does every output.
    Weights are shared with the original. What comes back fits together, which is no proof that samples
    stay apart: ask `rows_agree` before it is used.
    """
    result = model.clone()
    graph = result.graph
    inputs = [v for v in graph.inputs if v.const_value is None]
    batched = [v for v in inputs if len(known := dims(v) or ()) > 1 and known[0] == 1]
    if not batched or any(v.type is None or dims(v) is None for v in inputs):
        return None
    shapes = {str(v.name): _sized(dims(v) or ()) for v in inputs}
    several = shapes | {str(v.name): (SAMPLES, *shapes[str(v.name)][1:]) for v in batched}
    patch = BatchPatch(result, Shapes(result, shapes).walk(), Shapes(result, several, declared=False))
    if not patch.apply():
        return None
    _name_batch(graph, batched)
    # Up to IR 3 every new constant would have to be an input, too.
    result.ir_version = max(result.ir_version or 4, 4)
    return canonicalise(result)


def admit_one_sample(model: ir.Model, image: str) -> None:
    """Write onto inputs, in place, that there is one sample if outputs can only be of one, whatever inputs declare.

    So it is where a Reshape to one row is behind an input whose batch an exporter was told to leave free.

    Args:
        model: In canonical form.
        image: Name of the image input.
    """
    value = next((v for v in model.graph.inputs if v.name == image), None)
    batch = (dims(value) or (1,))[0] if value is not None else 1
    outputs = [dims(v) or (None,) for v in model.graph.outputs]
    if isinstance(batch, int) or not all(len(known) > 1 and known[0] == 1 for known in outputs):
        return
    for v in model.graph.inputs:
        known = dims(v) or ()
        if len(known) > 1 and known[0] == batch and v.const_value is None:
            v.shape = ir.Shape([1, *known[1:]])
    infer_shapes(model)


def rows_agree(
    run_batched: Callable[[NDArray[Any]], Arrays],
    run_single: Callable[[NDArray[Any]], Arrays],
    x: NDArray[Any],
    *,
    rtol: float,
) -> bool:
    """Tell whether a batch gives each sample what it gets alone.

    Args:
        run_batched: Runs the model that `make_batch_dynamic` made; returns its outputs.
        run_single: Runs the original; returns the same outputs.
        x: Different samples, at least two, (N, ...).
        rtol: Largest difference allowed, relative to the largest number of each output.
    """
    together = run_batched(x)
    for i in range(len(x)):
        alone = run_single(x[i : i + 1])
        pairs = zip(together, alone, strict=True)
        if not all(_close(many[i : i + 1], one, rtol) and len(many) == len(x) for many, one in pairs):
            return False
    return True


def _close(a: NDArray[Any], b: NDArray[Any], rtol: float) -> bool:
    if a.shape != b.shape:
        return False
    left, right = a.astype(np.float64), b.astype(np.float64)
    finite = right[np.isfinite(right)]
    return np.allclose(left, right, rtol=0, atol=rtol * np.abs(finite).max(initial=0), equal_nan=True)


def _sized(known: Sequence[Dim]) -> Shape:
    return tuple(d if isinstance(d, int) else SIDE for d in known)


def _name_batch(graph: ir.Graph, batched: Sequence[ir.Value]) -> None:
    """Write a dynamic batch onto inputs and outputs."""
    taken = {d for v in [*graph.inputs, *graph.outputs] for d in dims(v) or () if isinstance(d, str)}
    name = next(n for n in (NAME, *(f"{NAME}_{i}" for i in range(len(taken) + 1))) if n not in taken)
    for value in [*batched, *graph.outputs]:
        value.shape = ir.Shape([name, *(dims(value) or (None,))[1:]])
