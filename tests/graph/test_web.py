"""What is written for browsers computes what the operators themselves do."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.graph.builder import Op, Runtime
from onnxsal.graph.web import WEB

LOWEST, LARGEST = -(2**63), 2**63 - 1


def both_ways(write, shapes, feeds, known):
    """Return what `write` computes natively and spelled for browsers, and the operators of the latter."""
    found, operators = [], []
    for runtime in (Runtime(), Runtime(WEB)):
        graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="g")
        op = Op(graph, 21, runtime=runtime)
        for name, array in feeds.items():
            dtype = ir.DataType.from_numpy(array.dtype)
            shape = shapes[name] if known else [f"{name}_{i}" for i in range(array.ndim)]
            graph.inputs.append(ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape)))
        graph.outputs.append(write(op, *graph.inputs))
        op.check_spellings()
        proto = ir.to_proto(ir.Model(graph, ir_version=10))
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        found.append(session.run(None, feeds)[0])
        operators = [n.op_type for n in graph]
    return *found, operators


@pytest.mark.parametrize("known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_elements_compares(dtype, reduction, known, rng):
    # Fewer indices than data along the other axis, some from the end; named once each where they overwrite.
    indices = np.array([[0, -1], [2, 1], [-3, 0]]) if reduction == "none" else np.array([[0, -1], [2, 3], [-4, 3]])
    feeds = {"x": (rng.standard_normal((4, 3)) * 9).astype(dtype), "i": indices}
    feeds["u"] = (rng.standard_normal((3, 2)) * 9).astype(dtype)
    shapes = {k: v.shape for k, v in feeds.items()}
    native, web, operators = both_ways(
        lambda op, x, i, u: op.ScatterElements(x, i, u, axis=0, reduction=reduction), shapes, feeds, known
    )
    np.testing.assert_allclose(web, native, rtol=1e-6)
    assert "ScatterElements" not in operators


@pytest.mark.parametrize("known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_nd_compares(dtype, reduction, known, rng):
    indices = np.array([[[0, 1], [-1, 2]], [[1, -1], [2, 0]]])
    if reduction != "none":
        indices[1, 0] = [0, 1]
    feeds = {"x": (rng.standard_normal((3, 3, 5)) * 9).astype(dtype), "i": indices}
    feeds["u"] = (rng.standard_normal((2, 2, 5)) * 9).astype(dtype)
    shapes = {k: v.shape for k, v in feeds.items()}

    def write(op, x, i, u):
        i.shape = ir.Shape([*i.shape[:-1], 2])
        return op.ScatterND(x, i, u, reduction=reduction)

    native, web, operators = both_ways(write, shapes, feeds, known)
    np.testing.assert_allclose(web, native, rtol=1e-6)
    assert "ScatterND" not in operators


def test_truth_values_are_scattered_too():
    feeds = {"x": np.array([True, False, True]), "i": np.array([0, 1]), "u": np.array([False, True])}
    shapes = {"x": [3], "i": [2], "u": [2]}
    native, web, _ = both_ways(lambda op, x, i, u: op.ScatterElements(x, i, u), shapes, feeds, True)
    assert web.tolist() == native.tolist() == [False, True, True]


BOUNDS = [(-1, LOWEST, -1), (5, 0, -2), (99, 1, -3), (-2, -9, -1), (1, 4, -1), (LARGEST, LOWEST, -2), (-99, -999, -1)]


@pytest.mark.parametrize("known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_slices_backwards_pick_by_index(bounds, known):
    start, end, step = bounds
    feeds = {"x": np.arange(24, dtype=np.float32).reshape(4, 6)}
    native, web, operators = both_ways(
        lambda op, x: op.Slice(x, [start, 1], [end, 3], [1, 0], [step, 1]), {"x": (4, 6)}, feeds, known
    )
    assert web.tolist() == native.tolist()
    assert operators[0] == "Slice"
    assert "Gather" in operators


def test_slices_backwards_between_bounds_that_only_the_run_knows(rng):
    feeds = {"x": rng.standard_normal((5, 2)).astype(np.float32), "b": np.array([-2]), "e": np.array([-9])}
    native, web, _ = both_ways(
        lambda op, x, b, e: op.Slice(x, b, e, [0], [-2]), {"x": (5, 2), "b": [1], "e": [1]}, feeds, False
    )
    assert web.tolist() == native.tolist()


def test_convolutions_say_their_geometry():
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="g")
    op = Op(graph, 21, runtime=Runtime(WEB))
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 3, "h", "w"]))
    graph.inputs.append(x)
    op.Conv(x, np.ones((4, 3, 5, 1)), strides=[2, 2])
    (node,) = graph
    attributes = {a.name: a.value for a in node.attributes.values()}
    assert attributes == {"kernel_shape": (5, 1), "strides": (2, 2), "dilations": (1, 1), "group": 1}
