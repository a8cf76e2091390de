"""Products with weights: rows are read where the cotangent is a one, and large constants where they lie."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose

from onnxsal.autodiff import STANDARD, vjp
from onnxsal.autodiff.backward import differentiate
from onnxsal.graph.builder import Op
from onnxsal.graph.canonical import canonicalise
from onnxsal.graph.one_hot import one_hot

HEADER = '<ir_version: 10, opset_import: ["" : 21]> agraph (float[n,3] x, '
HEADS = {
    "weights by row": "float[4,3] w) => (float[n,4] y) { y = Gemm<transB=1>(x, w) }",
    "weights by row, scaled": "float[4,3] w) => (float[n,4] y) { y = Gemm<transB=1, alpha=0.5>(x, w) }",
    "weights by column": "float[3,4] w) => (float[n,4] y) { y = Gemm(x, w) }",
    "a product": "float[3,4] w) => (float[n,4] y) { y = MatMul(x, w) }",
}


def gradient_of_classes(text: str, *, contrast: bool) -> ir.Model:
    """Differentiate the score of class `index`, or how far it is above that of class `other`."""
    model = canonicalise(ir.from_proto(onnx.parser.parse_model(HEADER + text)))
    op = Op(model.graph, 21)
    x, (y,) = model.graph.inputs[0], model.graph.outputs
    indices = [
        ir.Value(name=n, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["n"])) for n in ("index", "other")
    ]
    model.graph.inputs.extend(indices)
    hot = [one_hot(op, index, op.dim(y, 1), y) for index in indices]
    (g,) = differentiate(op, {y: op.Sub(*hot) if contrast else hot[0]}, [x], STANDARD)
    model.graph.outputs.append(g)
    return model


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_gradient_of_a_class_is_its_row_of_the_weights(head, contrast, rng):
    model = gradient_of_classes(HEADS[head], contrast=contrast)
    w = rng.standard_normal((4, 3)).astype(np.float32)
    index, other = np.array([3, 0, 2]), np.array([1, 1, 0])
    feeds = {
        "x": np.ones((3, 3), np.float32),
        "w": w if "by row" in head else w.T.copy(),
        "index": index,
        "other": other,
    }
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run([model.graph.outputs[-1].name], feeds)[0]
    expected = w[index] - w[other] if contrast else w[index]
    assert_allclose(found, expected * (0.5 if "scaled" in head else 1), rtol=1e-6)
    products = [n.op_type for n in model.graph if n.op_type in ("Gemm", "MatMul")]
    assert len(products) == 1  # the forward pass's own


@pytest.mark.parametrize("shape", [(5, 2048), (2, 3, 2048), (2, 0, 2048)])
def test_a_large_constant_is_read_transposed_where_it_lies(shape, rng):
    names = ["n", "m"][: len(shape) - 1]
    w = rng.standard_normal((2048, 2100)).astype(np.float32)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[{",".join(names)},2048] x) => '
        f"(float[{','.join(names)},2100] y) {{ y = MatMul(x, w) }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    graph = vjp(model, of="y", wrt="x")
    assert "Transpose" not in [n.op_type for n in graph.graph]
    feeds = {"x": np.zeros(shape, np.float32), "cotangent_y": rng.standard_normal((*shape[:-1], 2100)).astype("f")}
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["grad_x"], feeds)
    assert_allclose(found, feeds["cotangent_y"] @ w.T, rtol=1e-4, atol=1e-4)
