"""Finite differences that say themselves whether they can be trusted.

A directional derivative is taken from both sides and at several steps, in double where some evaluator
computes in double what ONNX Runtime does. It counts if halving the step changes nothing and both
sides agree; at a kink they do not, in float32 rounding may forbid it, and then there is no number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.reference
from onnx import AttributeProto, TensorProto

from support.node_cases import is_float_array, session

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """A directional derivative found by differences.

    Attributes:
        value: The number.
        scale: Sum of the sizes of what it is the sum of; errors are relative to this.
        rtol: How well it is known.
    """

    value: float
    scale: float
    rtol: float


@dataclass(frozen=True)
class Evaluator:
    """Something that computes the model, in some precision, with the steps that suit it."""

    run: Run
    dtype: type
    steps: Sequence[float]
    rtol: float


def evaluators(model: onnx.ModelProto, names: list[str], feeds: Feeds) -> Iterator[Evaluator]:
    """Yield what computes at `feeds` the same as ONNX Runtime does with the model as it is, the most precise first."""
    truth = session(model).run(names, feeds)
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
        got = run(feeds) if run is not None else None
        if got is not None and all(_close(a, b, 3e-2 if coarse else 1e-3) for a, b in zip(truth, got, strict=True)):
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


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    a, b = (np.asarray(v).astype(np.float64) for v in (a, b))
    return a.shape == b.shape and np.allclose(a, b, tolerance, tolerance, equal_nan=True)


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
    wide = {k: feeds[k].astype(np.float64) for k in along}
    before = None
    for step in evaluator.steps:
        ends = [
            evaluator.run(feeds | {k: (wide[k] + s * step * along[k]).astype(evaluator.dtype) for k in along})
            for s in (1, -1)
        ]
        if any(e is None or any(a.shape != c.shape for a, c in zip(e, center, strict=True)) for e in ends):
            before = None
            continue
        rises = [_weighted(weights, e, center) / (s * step) for e, s in zip(ends, (1, -1), strict=True)]
        now = _sum_up(weights, ends, step), abs(rises[0] - rises[1])
        if before is not None and _settled(before, now, evaluator.rtol):
            return Difference(*now[0], evaluator.rtol)
        before = now
    return None


def _settled(before: tuple, now: tuple, rtol: float) -> bool:
    """Tell whether a smaller step leaves the value as it was, and the gap between the sides small or shrinking."""
    (earlier, _), gap_before = before
    (value, scale), gap = now
    allowed = rtol / 4 * scale + 1e-9
    return bool(abs(value - earlier) <= allowed and (gap <= 4 * allowed or gap < 0.5 * gap_before))


def _weighted(weights: list[np.ndarray], a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return float(sum(np.sum(_product(w, p, q)) for w, p, q in zip(weights, a, b, strict=True)))


def _sum_up(weights: list[np.ndarray], ends: list[list[np.ndarray]], step: float) -> tuple[float, float]:
    parts = [_product(w, p, q) / (2 * step) for w, p, q in zip(weights, *ends, strict=True)]
    return float(sum(np.sum(p) for p in parts)), float(sum(np.sum(np.abs(p)) for p in parts))


def _product(weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
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
