"""Check gradients through control flow against finite differences, in ONNX Runtime and in double."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxsal.autodiff import STANDARD, vjp

LEVELS = (ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
STEP = 1e-5


def model(text: str, opset: int = 21, imports: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{imports}]> agraph {text}')


def session(proto: onnx.ModelProto, level=LEVELS[-1]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(proto: onnx.ModelProto, feeds: dict, level=LEVELS[-1]) -> dict[str, np.ndarray]:
    found = session(proto, level)
    names = [o.name for o in found.get_outputs()]
    return dict(zip(names, found.run(names, feeds), strict=True))


def gradient_model(source: onnx.ModelProto, of: str, wrt: list[str], rules=STANDARD) -> onnx.ModelProto:
    """Return the model of a vjp, after the checker has agreed."""
    proto = ir.to_proto(vjp(source, of=of, wrt=wrt, rules=rules))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def directional(source: onnx.ModelProto, feeds: dict, rng, of: str = "y") -> list[tuple[str, float, float]]:
    """Return input, <Jᵀ v, u> by the graph and <v, J u> by differences: for each float input and optimisation level."""
    wrt = [n for n, a in feeds.items() if a.dtype.kind == "f"]
    proto, forward = gradient_model(source, of, wrt), session(source)
    v = rng.standard_normal(forward.run([of], feeds)[0].shape)
    directions = {n: rng.standard_normal(feeds[n].shape) for n in wrt}
    found = []
    gradients = [run(proto, feeds | {f"cotangent_{of}": v}, level) for level in LEVELS]
    for name, u in directions.items():
        plus, minus = (forward.run([of], feeds | {name: np.asarray(feeds[name] + s * STEP * u)})[0] for s in (1, -1))
        numeric = float(np.sum(v * (plus - minus)) / (2 * STEP))
        for outputs in gradients:
            g = outputs[f"grad_{name}"]
            assert g.shape == feeds[name].shape
            found.append((name, float(np.sum(g * u)), numeric))
    return found


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape)


def agrees(text: str, rng, of: str = "y", **feeds: np.ndarray) -> None:
    """Fail unless the gradients of a model, given as text, agree with finite differences."""
    for name, analytic, numeric in directional(model(text), feeds, rng, of):
        assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-7), name
