"""Finite differences that say themselves whether they can be trusted.

A directional derivative is taken from both sides and at several steps, in double where some evaluator
computes in double what ONNX Runtime does. It counts if halving the step changes nothing and both
sides agree; at a kink they do not, in float32 rounding may forbid it, and then there is no number.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.reference
from onnx import AttributeProto, TensorProto

from support.node_cases import is_float_array, session

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
ROUNDING = 1e-6  # of a gradient computed in float32, in terms of what the outputs add up to
Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """A directional derivative found by differences.

    Attributes:
        value: The number.
        error: How far the true one may be from it: what the steps leave open, and rounding.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Evaluator:
    """Something that computes the model, in some precision, with the steps that suit it."""

    run: Run
    dtype: type
    steps: Sequence[float]
    rtol: float


def evaluators(model: onnx.ModelProto, names: list[str], feeds: Feeds, *, flat: bool = False) -> Iterator[Evaluator]:
    """Yield what computes the same as ONNX Runtime does with the model as it is, the most precise first.

    That is held against it at `feeds` and a little beside. What rounds to float32 within does not count as double;
    of what is `flat`, whose outputs float32 may well hold, that cannot be told.
    """
    forward, beside = session(model), {k: _beside(a) for k, a in feeds.items()}
    points = [(feeds, forward.run(names, feeds))]
    with suppress(Exception):  # out of the operator's domain
        points.append((beside, forward.run(names, beside)))
    truth = points[0][1]
    coarse = any(is_float_array(a) and a.dtype.itemsize == 2 for a in [*feeds.values(), *truth])
    doubled, floated = (
        promote(model, (*HALVES, TensorProto.FLOAT, TensorProto.DOUBLE), t)
        for t in (TensorProto.DOUBLE, TensorProto.FLOAT)
    )
    makers = (
        (lambda: session(doubled), np.float64, (1e-3, 1e-4, 1e-5, 1e-6)),
        (lambda: onnx.reference.ReferenceEvaluator(doubled), np.float64, (1e-3, 1e-4, 1e-5, 1e-6)),
        (lambda: session(floated), np.float32, (0.1, 0.03, 0.01, 0.003)),
    )
    for make, dtype, steps in makers:
        run = _runner(make, names, dtype)
        if run is not None and all(_close(wanted, run(point), 3e-2 if coarse else 1e-3) for point, wanted in points):
            if dtype is np.float64 and not flat and _rounds(run(_odd(feeds))):
                continue
            rtol = 2e-2 if coarse else 1e-4 if dtype is np.float64 else 2e-3
            yield Evaluator(run, dtype, steps, rtol)


def _runner(make: Callable, names: list[str], dtype: type) -> Run | None:
    try:
        engine = make()
    except Exception:  # no kernel in this type
        return None

    def run(feeds: Feeds) -> list[np.ndarray] | None:
        typed = {k: a.astype(dtype) if is_float_array(a) else a for k, a in feeds.items()}
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(a) for a in engine.run(names, typed)]
        except Exception:
            return None

    return run


def _beside(array: np.ndarray) -> np.ndarray:
    if not is_float_array(array):
        return array
    wide = array.astype(np.float64)
    return np.asarray(np.where(np.isfinite(wide), 1.01 * wide + 0.001, wide)).astype(array.dtype)


def _odd(feeds: Feeds) -> Feeds:
    """Return inputs that float32 cannot hold."""
    return {k: np.asarray(a.astype(np.float64) * (1 + 1e-10)) if is_float_array(a) else a for k, a in feeds.items()}


def _rounds(outputs: list[np.ndarray] | None) -> bool:
    """Tell whether float32 holds all that comes out."""
    with np.errstate(over="ignore"):
        return outputs is not None and all(np.array_equal(a, a.astype(np.float32), equal_nan=True) for a in outputs)


def _close(wanted: list[np.ndarray], got: list[np.ndarray] | None, tolerance: float) -> bool:
    if got is None:
        return False
    pairs = [[np.asarray(v).astype(np.float64) for v in pair] for pair in zip(wanted, got, strict=True)]
    return all(a.shape == b.shape and np.allclose(a, b, tolerance, tolerance, equal_nan=True) for a, b in pairs)


def directional(
    evaluator: Evaluator, feeds: Feeds, along: Feeds, cotangents: dict[str, np.ndarray]
) -> Difference | None:
    """Return the derivative of Σ cotangent · output along a direction, or None where differences do not settle.

    Args:
        evaluator: Computes the outputs that `cotangents` names, in that order.
        feeds: The point.
        along: The direction, for some of the inputs.
        cotangents: One per output; zero where an output is not finite.
    """
    weights = list(cotangents.values())
    center = evaluator.run(feeds)
    size = float(sum(np.sum(np.abs(_product(w, c, 0.0))) for w, c in zip(weights, center, strict=True)))
    before = None
    for step in evaluator.steps:
        ends = [evaluator.run(_shifted(feeds, along, s * step, evaluator.dtype)) for s in (1, -1)]
        if any(e is None or any(a.shape != c.shape for a, c in zip(e, center, strict=True)) for e in ends):
            before = None
            continue
        rounding = 4 * float(np.finfo(evaluator.dtype).eps) * size / step
        now = _quotient(weights, ends, center, step)
        if before is not None and _settled(before, now, allowed := evaluator.rtol * now.scale + rounding):
            return Difference(now.value, allowed + ROUNDING * size + 1e-9)
        before = now
    return None


def _shifted(feeds: Feeds, along: Feeds, step: float, dtype: type) -> Feeds:
    return feeds | {k: np.asarray(feeds[k].astype(np.float64) + step * u).astype(dtype) for k, u in along.items()}


@dataclass(frozen=True)
class _Quotient:
    """A central difference quotient; the sum of the sizes of its terms; and how far the two one-sided ones differ."""

    value: float
    scale: float
    gap: float


def _quotient(weights: list[np.ndarray], ends: list[list[np.ndarray]], center: list[np.ndarray], step: float):
    terms = [_product(w, p, q) / (2 * step) for w, p, q in zip(weights, *ends, strict=True)]
    with np.errstate(all="ignore"):
        bends = [
            _product(w, np.float64(p) + np.float64(q), 2 * np.float64(c)) / step
            for w, p, q, c in zip(weights, *ends, center, strict=True)
        ]
    value, scale = (float(sum(np.sum(f(t)) for t in terms)) for f in (np.asarray, np.abs))
    return _Quotient(value, scale, abs(float(sum(np.sum(b) for b in bends))))


def _settled(before: _Quotient, now: _Quotient, allowed: float) -> bool:
    """Tell whether a smaller step leaves the value as it was, and the two sides agree or come to."""
    return abs(now.value - before.value) <= allowed / 2 and (now.gap <= allowed or now.gap < 0.5 * before.gap)


def _product(weight: np.ndarray, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(weight == 0, 0.0, weight * (np.float64(a) - np.float64(b)))


# ----- The same model in another precision -----


def promote(model: onnx.ModelProto, old: Sequence[int], new: int) -> onnx.ModelProto:
    """Return the model with float types replaced by another one, in types, constants and attributes."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _promote_graph(result.graph, old, new)
    for function in result.functions:
        _promote_nodes(function.node, old, new)
    return result


def _promote_graph(graph: onnx.GraphProto, old: Sequence[int], new: int) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        _promote_type(value.type, old, new)
    for tensor in graph.initializer:
        _promote_tensor(tensor, old, new)
    _promote_nodes(graph.node, old, new)


def _promote_type(kind: onnx.TypeProto, old: Sequence[int], new: int) -> None:
    held = kind.WhichOneof("value")
    if held == "tensor_type":
        if kind.tensor_type.elem_type in old:
            kind.tensor_type.elem_type = new
    elif held in ("sequence_type", "optional_type"):
        _promote_type(getattr(kind, held).elem_type, old, new)


def _promote_tensor(tensor: TensorProto, old: Sequence[int], new: int) -> None:
    if tensor.data_type in old:
        array = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(new))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _promote_nodes(nodes: Sequence[onnx.NodeProto], old: Sequence[int], new: int) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in old:
                attribute.i = new
            if attribute.type == AttributeProto.TENSOR:
                _promote_tensor(attribute.t, old, new)
            for graph in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                _promote_graph(graph, old, new)
        _promote_constant(node, new)


def _promote_constant(node: onnx.NodeProto, new: int) -> None:
    """Write the floats of a Constant as a tensor, which says its type."""
    for attribute in node.attribute:
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = onnx.helper.get_attribute_value(attribute)
            array = np.array(value, onnx.helper.tensor_dtype_to_np_dtype(new))
            attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array)))
