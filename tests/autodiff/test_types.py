"""Types: every operator that ONNX Runtime runs in double, float16 or bfloat16 has its gradient there, and it runs."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, helper
from support.derivatives import Case, random_feeds
from support.selection import some_of_each_operator

from onnxsal.autodiff import vjp

CASES = some_of_each_operator(3)
# A scatter with a reduction, an LRN of even size, and what ONNX has no such type of.
NOT_IN_FLOAT16 = {"Celu", "LRN", "NonMaxSuppression", "Range", "ScatterElements", "ScatterND"}
# Classical machine learning knows no halves.
NOT_IN_FLOAT16 |= {"ArrayFeatureExtractor", "Binarizer", "Scaler", "TreeEnsemble"}
# In bfloat16 ONNX Runtime's CPU kernels move elements, and do little else.
IN_BFLOAT16 = {"Concat", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape", "Slice"}
IN_BFLOAT16 |= {"Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True)
class Type:
    """A floating-point type, and how far its gradient may be from that in float32, in parts of the largest entry."""

    onnx: int
    tolerance: float


DOUBLE, FLOAT16 = Type(TensorProto.DOUBLE, 1e-4), Type(TensorProto.FLOAT16, 1e-2)
BFLOAT16 = Type(TensorProto.BFLOAT16, 5e-2)


def typed(case: Case, kind: int) -> ModelProto:
    """Return the case's model with another type in the place of double."""
    model = case.model()
    _retype(model.graph, kind)
    return model


def _retype(graph: GraphProto, kind: int) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info]:
        _retype_type(value.type, kind)
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.type == AttributeProto.TENSOR)]
    for tensor in tensors:
        if tensor.data_type == TensorProto.DOUBLE:
            array = onnx.numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, array.shape, array.tobytes(), raw=True))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _retype(attribute.g, kind)
            if attribute.type == AttributeProto.TYPE_PROTO:
                _retype_type(attribute.tp, kind)
            if node.op_type == "Cast" and attribute.i == TensorProto.DOUBLE:
                attribute.i = kind


def _retype_type(given: TypeProto, kind: int) -> None:
    while given.WhichOneof("value") in ("sequence_type", "optional_type"):
        given = getattr(given, given.WhichOneof("value")).elem_type
    if given.tensor_type.elem_type == TensorProto.DOUBLE:
        given.tensor_type.elem_type = kind


def between_casts(model: ModelProto, kind: int) -> ModelProto:
    """Let a model take and give float32, and cast to and from its own type, as exported half-precision models do."""
    graph, nodes = model.graph, list(model.graph.node)
    renamed = {
        v.name: f"{v.name}_typed" for v in [*graph.input, graph.output[0]] if v.type.tensor_type.elem_type == kind
    }
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in [*graph.input, graph.output[0]]:
        if value.name in renamed:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    casts = [helper.make_node("Cast", [v.name], [renamed[v.name]], to=kind) for v in graph.input if v.name in renamed]
    y = graph.output[0].name
    last = [helper.make_node("Cast", [renamed[y]], [y], to=TensorProto.FLOAT)] if y in renamed else []
    del graph.node[:]
    graph.node.extend([*casts, *nodes, *last])
    return model


def run(model: ModelProto, feeds: dict, names: list[str]) -> list[np.ndarray]:
    """Run in ONNX Runtime, floats fed in the types that the model asks for."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    return session.run(names, {i.name: np.asarray(feeds[i.name], types.get(i.type)) for i in session.get_inputs()})


def check(case: Case, model: ModelProto, kind: Type, rng: np.random.Generator, *, keep_half: bool = False) -> None:
    """Compare the gradient of a model with that of the case in float32, at a point that both types have."""
    exact = helper.tensor_dtype_to_np_dtype(kind.onnx)
    feeds = {
        k: a.astype(exact).astype(np.float64) if a.dtype.kind == "f" else a for k, a in random_feeds(case, rng).items()
    }
    wrt = case.wrt or tuple(name for name, array in feeds.items() if array.dtype.kind == "f")
    single = case.model(double=False)
    y = single.graph.output[0].name
    feeds[f"cotangent_{y}"] = rng.standard_normal(run(single, feeds, [y])[0].shape)
    names = [f"grad_{name}" for name in wrt]
    graph = ir.to_proto(vjp(model, of=y, wrt=wrt, keep_half=keep_half))
    if case.op_type != "MeanVarianceNormalization":  # ONNX's own definition of it mixes types
        onnx.checker.check_model(graph, full_check=True)
    expected = run(ir.to_proto(vjp(single, of=y, wrt=wrt)), feeds, names)
    for name, found, array in zip(names, run(graph, feeds, names), expected, strict=True):
        assert found.shape == array.shape
        bound = kind.tolerance * (np.abs(array).max(initial=0) + 1e-3)
        np.testing.assert_allclose(np.float64(found), array, rtol=0, atol=bound, err_msg=name)


def runs(model: ModelProto, case: Case, rng: np.random.Generator) -> bool:
    """Tell whether ONNX Runtime has kernels for the forward pass."""
    try:
        run(model, random_feeds(case, rng), [model.graph.output[0].name])
    except Exception:
        return False
    return True


IN_DOUBLE = [c for c in CASES if runs(typed(c, TensorProto.DOUBLE), c, np.random.default_rng(0))]


def test_double_is_run_by_about_half_of_the_operators():
    assert len({case.op_type for case in IN_DOUBLE}) >= 75


@pytest.mark.parametrize("case", IN_DOUBLE, ids=str)
def test_gradient_of_a_double_model_needs_no_other_kernels(case, rng):
    check(case, typed(case, TensorProto.DOUBLE), DOUBLE, rng)


@pytest.mark.parametrize("keep_half", [False, True], ids=["in float32", "in float16"])
@pytest.mark.parametrize("case", [c for c in CASES if c.op_type not in NOT_IN_FLOAT16], ids=str)
def test_gradient_of_a_float16_model_is_that_of_its_float32_twin(case, keep_half, rng):
    check(case, typed(case, TensorProto.FLOAT16), FLOAT16, rng, keep_half=keep_half)


@pytest.mark.parametrize("case", [c for c in CASES if c.op_type in IN_BFLOAT16], ids=str)
def test_gradient_passes_casts_to_bfloat16_and_back(case, rng):
    check(case, between_casts(typed(case, TensorProto.BFLOAT16), TensorProto.BFLOAT16), BFLOAT16, rng)


@pytest.mark.parametrize("op_type", ["Conv", "LayerNormalization", "Resize", "LSTM", "MaxPool", "Softmax"])
def test_gradient_passes_casts_to_float16_and_back(op_type, rng):
    case = next(c for c in CASES if c.op_type == op_type)
    check(case, between_casts(typed(case, TensorProto.FLOAT16), TensorProto.FLOAT16), FLOAT16, rng)


@pytest.mark.parametrize("sizes", ["1,2,256,300", "n,c,h,w"])
@pytest.mark.parametrize("body", ["GlobalAveragePool(x)", "ReduceMean(x, axes)", "ReduceMean(x)"])
def test_float16_counts_further_than_it_can(body, sizes):
    text = f"(float16[{sizes}] x) => (float16[a,b,c,d] y) <int64[2] axes = {{2, 3}}> {{ y = {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> agraph {text}')
    graph = ir.to_proto(vjp(model, of="y", wrt="x", keep_half=True))
    x = np.zeros((1, 2, 256, 300))
    y = run(model, {"x": x}, ["y"])[0]
    (found,) = run(graph, {"x": x, "cotangent_y": np.full(y.shape, 64.0)}, ["grad_x"])
    np.testing.assert_allclose(np.float32(found), np.full(x.shape, 64 * y.size / x.size), rtol=2e-2)


def test_a_weights_type_is_its_own_whatever_the_file_says_of_it(rng):
    """ONNX Runtime's converter to float16 leaves it so for the scales of a Resize, and ONNX Runtime runs it."""
    text = """(float[1,2,3,3] x) => (float[1,2,6,6] y) <float[4] scales = {1.0, 1.0, 2.0, 2.0}>
        { y = Resize<mode="linear">(x, , scales) }"""
    right = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> agraph {text}')
    stale = ModelProto()
    stale.CopyFrom(right)
    del stale.graph.value_info[:]
    stale.graph.value_info.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT16, [4]))
    feeds = {"x": rng.standard_normal((1, 2, 3, 3)), "cotangent_y": rng.standard_normal((1, 2, 6, 6))}
    found, expected = (run(ir.to_proto(vjp(m, of="y", wrt="x")), feeds, ["grad_x"])[0] for m in (stale, right))
    np.testing.assert_array_equal(found, expected)
