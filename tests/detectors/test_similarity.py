"""How well detections are found again, against the formulas written out pair by pair."""

import itertools

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.testing import assert_allclose

from onnxsal.detectors.registry import Proposals
from onnxsal.detectors.similarity import best_match
from onnxsal.graph.builder import Op

N, P, T, K = 3, 12, 4, 5
FORMS = [
    *itertools.product(["d-rise", "dot", "hard", "vem"], [True, False], [False]),
    *itertools.product(["hard", "vem"], [True, False], [True]),
]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def with_rest(p: np.ndarray) -> np.ndarray:
    """Return K + 1 probabilities: the best one, and what is left of 1 shared among the others."""
    shared = np.full(K + 1, (1 - p.max()) / K)
    shared[p.argmax()] = p.max()
    return shared


def agreement(kind: str, p: np.ndarray, target: np.ndarray, objectness: float | None, *, top_only: bool) -> float:
    sure = 1.0 if objectness is None else objectness
    if kind == "dot":
        return p @ target * sure
    if kind == "hard":
        return p[target.argmax()] * sure
    if kind == "d-rise" and objectness is None:
        sure = p.max()
    if kind == "vem" and top_only:
        p, target = with_rest(p), with_rest(target)
    return p @ target / np.linalg.norm(p) / np.linalg.norm(target) * sure


def drawn(rng: np.random.Generator, *shape: int, top_only: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (..., 4) and probabilities (..., K), of which but the best are 0 if `top_only`."""
    corners = rng.uniform(0, 40, (*shape, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (*shape, 2))], axis=-1)
    p = rng.uniform(0.05, 1, (*shape, K))
    return boxes, np.where(p == p.max(axis=-1, keepdims=True), p, 0) if top_only else p


@pytest.mark.parametrize("known", [True, False], ids=["so many proposals", "any number of proposals"])
@pytest.mark.parametrize(("kind", "has_objectness", "top_only"), FORMS)
def test_the_best_match_is_the_largest_of_all_pairs(kind, has_objectness, top_only, known, rng):
    boxes, p = drawn(rng, N, P, top_only=top_only)
    targets, q = drawn(rng, T, top_only=top_only)
    objectness = rng.uniform(0, 1, (N, P)) if has_objectness else None
    found = run(kind, boxes, p, objectness, targets, q, known=known, top_only=top_only)
    for n, t in np.ndindex(N, T):
        sure = [None if objectness is None else objectness[n, i] for i in range(P)]
        pairs = [
            overlap(boxes[n, i], targets[t]) * agreement(kind, p[n, i], q[t], sure[i], top_only=top_only)
            for i in range(P)
        ]
        assert_allclose(found[n, t], max(pairs), rtol=1e-5, atol=1e-7)


def test_where_nothing_is_proposed_nothing_is_found():
    nothing = np.zeros((1, 0, 4)), np.zeros((1, 0, K))
    found = run("d-rise", *nothing, None, np.array([[0.0, 0, 5, 5]]), np.ones((1, K)), known=False, top_only=False)
    assert found.tolist() == [[0]]


def run(kind, boxes, p, objectness, targets, q, *, known, top_only) -> np.ndarray:
    """Return what the graph says, (N, T)."""
    count = boxes.shape[1] if known else "proposals"
    shapes = {"boxes": ["N", count, 4], "p": ["N", count, K], "objectness": ["N", count]}
    shapes |= {"targets": ["T", 4], "q": ["T", K]}
    arrays = {"boxes": boxes, "p": p, "objectness": objectness, "targets": targets, "q": q}
    feeds = {name: array.astype(np.float32) for name, array in arrays.items() if array is not None}
    values = {n: ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shapes[n])) for n in feeds}
    graph = ir.Graph(list(values.values()), [], nodes=[], opset_imports={"": 21}, name="similarity")
    op = Op(graph, 21, 10)
    proposals = Proposals(values["boxes"], values["p"], values.get("objectness"), top_only)
    answer = best_match(op, proposals, values["targets"], values["q"], kind)
    graph.outputs.append(answer)
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]
