"""The gradient of whole networks, from both torch exporters, against torch.autograd in float64.

The references are frozen by `freeze.py`, whose header names the versions.
"""

import numpy as np
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from parity import frozen

from onnxsal.autodiff import vjp

NAMES = sorted(path.name.removesuffix(".onnx.xz") for path in frozen.FOLDER.glob("*.onnx.xz"))
# Rounding in float32 through a hundred layers stays below 1e-5; 1e-4 leaves room for other processors.
TOLERANCE = 1e-4


def run(model: bytes, feeds: dict[str, NDArray[np.float32]], level: str) -> dict[str, NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def relative(value: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float(np.abs(value - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("name", NAMES)
def test_input_gradient_is_that_of_torch_autograd(name):
    reference = frozen.Reference.load(name.split(".")[0])
    model = onnx_ir.from_proto(frozen.load_graph(name, reference.gain))
    image, scores = model.graph.inputs[0].name, model.graph.outputs[0].name
    backward = onnx_ir.to_proto(vjp(model, of=[scores], wrt=[image])).SerializeToString()
    feeds = {image: reference.x, f"cotangent_{scores}": reference.cotangent}

    for level in ("ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        outputs = run(backward, feeds, level)
        assert relative(outputs[scores], reference.scores) <= TOLERANCE
        error = relative(reference.thin(outputs[f"grad_{image}"]), reference.gradient)
        if error > TOLERANCE:
            # A fused kernel rounds otherwise and may cross a kink (one ReLU of a million gives 4e-4):
            # an excess counts only if the plain kernels have it too.
            plain = run(backward, feeds, "ORT_DISABLE_ALL")[f"grad_{image}"]
            error = relative(reference.thin(plain), reference.gradient)
        assert error <= TOLERANCE, f"{name}: relative error {error:.1e} at {level}"


def test_every_architecture_is_frozen_from_every_exporter_that_writes_it():
    architectures = {path.stem for path in frozen.FOLDER.glob("*.npz")}
    assert len(architectures) >= 50
    pairs = {f"{one}.{exporter}" for one in architectures for exporter in frozen.EXPORTERS}
    assert set(NAMES) == pairs - set(frozen.NOT_EXPORTED)
    assert set(frozen.NOT_EXPORTED) <= pairs
