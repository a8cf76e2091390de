"""Gradients of float16 models: those of the same model in float32, to the three digits of the forward pass."""

from importlib import import_module

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.testing import assert_allclose
from support.derivatives import Case, random_feeds

from onnxsal.autodiff import vjp

FAMILIES = ("elementwise", "activation", "reduce", "norm", "softmax", "linear", "einsum", "conv", "attention")
# Without float16 by ONNX's own definition; that of MeanVarianceNormalization mixes types there, and is not valid.
NOT_IN_HALF = {"Celu", "Range", "MeanVarianceNormalization"}


def first_of_each_operator() -> list[Case]:
    cases = [case for family in FAMILIES for case in import_module(f"autodiff.cases.{family}").CASES]
    firsts = {c.op_type: c for c in reversed(cases) if "ort" in c.runtimes and c.op_type not in NOT_IN_HALF}
    return [firsts[name] for name in sorted(firsts)]


@pytest.mark.parametrize("keep_half", [False, True], ids=["in float32", "in float16"])
@pytest.mark.parametrize("case", first_of_each_operator(), ids=str)
def test_gradient_of_a_float16_model_is_that_of_its_float32_twin(case, keep_half, rng):
    feeds = {k: a.astype(np.float16) if a.dtype.kind == "f" else a for k, a in random_feeds(case, rng).items()}
    wrt = case.wrt or tuple(k for k, a in feeds.items() if a.dtype.kind == "f")
    single = case.model(double=False)
    y = single.graph.output[0].name
    v = rng.standard_normal(np.shape(run(single, feeds, [y])[0]))
    half = ir.to_proto(vjp(to_half(case.model(double=False)), of=y, wrt=wrt, keep_half=keep_half))
    onnx.checker.check_model(half, full_check=True)
    names = [f"grad_{n}" for n in wrt]
    found = run(half, feeds | {f"cotangent_{y}": v}, names)
    expected = run(ir.to_proto(vjp(single, of=y, wrt=wrt)), feeds | {f"cotangent_{y}": v}, names)
    for name, a, b in zip(names, found, expected, strict=True):
        assert a.dtype == (np.float16 if keep_half else np.float32)
        assert_allclose(np.float32(a), b, rtol=0, atol=1e-2 * (np.abs(b).max() + 1e-3), err_msg=name)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make every float32 input, output, initializer and type conversion of a model float16."""
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    return model


def run(model: onnx.ModelProto, feeds: dict, names: list[str]) -> list[np.ndarray]:
    """Run in ONNX Runtime, floats fed in the types that the model asks for."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    typed = {i.name: np.asarray(feeds[i.name], types.get(i.type)) for i in session.get_inputs()}
    return session.run(names, typed)
