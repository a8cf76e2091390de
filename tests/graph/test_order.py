"""Files whose nodes are in another order than ONNX demands."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal import load
from onnxsal.autodiff import vjp
from onnxsal.errors import ModelError
from onnxsal.graph.order import put_in_order

LINES = ["b = Conv<kernel_shape=[3,3]>(a, w)", "c = Relu(b)", "y = GlobalAveragePool(c)", "a = Mul(x, s)"]
BRANCH = [
    "b = Add(a, x)",
    "y = If(t) <then_branch = g () => (float[N] p) {p = Mul(b, b)}, else_branch = h () => (float[N] q) {q = Neg(b)}>",
    "a = Sin(x)",
    "t = Not(f)",
]


def network(lines: list[str], opset: int = 21) -> onnx.ModelProto:
    text = " ".join(lines)
    given = "float[N] x" if "If" in text else "float[N,3,5,5] x"
    made = "float[N] y" if "If" in text else "float[N,3,1,1] y"
    held = "bool f = {0}" if "If" in text else "float[3,3,3,3] w, float s = {2}"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> agraph ({given}) => ({made}) <{held}> {{ {text} }}'
    )
    if "If" not in text:
        weight = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        del model.graph.value_info[:]
    return model


def gradient(model, x):
    graph = ir.to_proto(vjp(model, of="y", wrt="x"))
    onnx.checker.check_model(graph)
    run = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    v = np.ones(x.shape[:1] if x.ndim == 1 else (len(x), 3, 1, 1), np.float32)
    return run.run(["grad_x"], {"x": x, "cotangent_y": v})[0]


@pytest.mark.parametrize("opset", [13, 21])
def test_a_node_that_is_written_too_late_is_read_all_the_same(opset, rng):
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    expected = gradient(network([*LINES[-1:], *LINES[:-1]], opset), x)
    np.testing.assert_array_equal(gradient(network(LINES, opset), x), expected)


def test_a_body_may_read_what_is_written_too_late(rng):
    x = rng.standard_normal(4).astype(np.float32)
    found = gradient(network(BRANCH), x)
    np.testing.assert_allclose(found, 2 * (np.sin(x) + x) * (np.cos(x) + 1), rtol=1e-5)


def test_the_order_of_the_users_model_stays():
    model = ir.from_proto(network(LINES))
    before = list(model.graph)
    vjp(model, of="y", wrt="x")
    assert list(model.graph) == before


def test_such_a_file_is_explained(rng):
    model = load(network(LINES).SerializeToString(), card={"size": (5, 5), "channels": "RGB"})
    found = model.explain(rng.integers(0, 255, (5, 5, 3)).astype(np.uint8), "grad-cam", layer="c")
    assert found.attribution.shape == (3, 3)


def test_a_circle_is_refused():
    model = ir.from_proto(network(["a = Add(x, b)", "b = Sin(a)", "y = Neg(b)"]))
    with pytest.raises(ModelError, match="wait for each other"):
        put_in_order(model)
