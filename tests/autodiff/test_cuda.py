"""Gradients on CUDA: the case table and whole networks against the CPU. Skips, saying so, where no GPU answers.

Run by hand where there is one; `-s` prints which nodes ONNX Runtime left to the CPU.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from autodiff.test_rules import CASES
from parity import frozen
from support.derivatives import random_feeds

from onnxsal.autodiff import vjp

CPU = "CPUExecutionProvider"
CUDA = ("CUDAExecutionProvider", {"use_tf32": 0})
NAMES = sorted(path.name.removesuffix(".onnx.xz") for path in frozen.FOLDER.glob("*.onnx.xz"))
TOLERANCE = 1e-3
"""Kernels of cuDNN round otherwise than those of the CPU; a wrong gradient is off by far more."""


def has_cuda() -> bool:
    """Tell whether a session really starts on CUDA: a build for it lists it on any machine."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"{header} g (float[1] x) => (float[1] y) {{ y = Abs(x) }}")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return "CUDAExecutionProvider" in ort.InferenceSession(model.SerializeToString(), options, [CUDA]).get_providers()


if not has_cuda():
    pytest.skip("needs a GPU, and the build of ONNX Runtime for it", allow_module_level=True)


def run(
    model: bytes, feeds: dict, provider: object, profile: Path | None = None
) -> tuple[list[np.ndarray], Counter[str]]:
    """Return the outputs, and how often each operator ran on the CPU although CUDA was asked for."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    both = [provider] if provider == CPU else [provider, CPU]
    session = ort.InferenceSession(model, options, providers=both)
    outputs = session.run(None, feeds)
    left: Counter[str] = Counter()
    if profile is not None:
        events = json.loads(Path(session.end_profiling()).read_text())
        ran = [e["args"] for e in events if e.get("cat") == "Node" and "provider" in e.get("args", {})]
        left.update(a["op_name"] for a in ran if a["provider"] == CPU)
    return outputs, left


def relative(value: np.ndarray, reference: np.ndarray) -> float:
    if reference.size == 0:
        return 0.0
    return float(np.abs(value - reference).max() / max(np.abs(reference).max(), 1e-6))


ON_CPU: Counter[str] = Counter()


def forward(model: bytes, feeds: dict) -> np.ndarray:
    """Return the output of the model itself; skip where its kernels on CUDA do not give it."""
    want = run(model, feeds, CPU)[0][0]
    try:
        found = run(model, feeds, CUDA)[0][0]
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        pytest.skip(f"the model itself does not run on CUDA: {str(error).splitlines()[0]}")
    if want.dtype.kind == "f" and not relative(found, want) <= TOLERANCE:
        pytest.skip("the model itself gives other numbers on CUDA")
    return want


@pytest.mark.parametrize("case", [c for c in CASES if "ort" in c.runtimes], ids=str)
def test_a_gradient_on_cuda_is_that_on_the_cpu(case, rng, tmp_path):
    feeds = random_feeds(case, rng)
    wrt = case.wrt or tuple(n for n, a in feeds.items() if a.dtype.kind == "f")
    output = case.model().graph.output[0].name
    model = onnx_ir.to_proto(vjp(case.model(double=False), of=output, wrt=wrt, target="gpu"))
    typed = {k: np.asarray(a, np.float32) if a.dtype.kind == "f" else a for k, a in feeds.items()}
    y = forward(case.model(double=False).SerializeToString(), typed)
    typed[f"cotangent_{output}"] = rng.standard_normal(y.shape).astype(np.float32)
    data = model.SerializeToString()
    want, _ = run(data, typed, CPU)
    found, left = run(data, typed, CUDA, tmp_path / "profile")
    ON_CPU.update(left)
    for name, value, reference in zip([o.name for o in model.graph.output], found, want, strict=True):
        if name.startswith("grad_"):
            assert relative(value, reference) <= TOLERANCE, name


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_network_on_cuda_is_that_of_torch(name, tmp_path):
    reference = frozen.Reference.load(name.split(".")[0])
    model = onnx_ir.from_proto(frozen.load_graph(name, reference.gain))
    image, scores = model.graph.inputs[0].name, model.graph.outputs[0].name
    backward = onnx_ir.to_proto(vjp(model, of=[scores], wrt=[image], target="gpu")).SerializeToString()
    feeds = {image: reference.x, f"cotangent_{scores}": reference.cotangent}
    outputs, left = run(backward, feeds, CUDA, tmp_path / "profile")
    ON_CPU.update(left)
    assert relative(reference.thin(outputs[-1]), reference.gradient) <= TOLERANCE


@pytest.fixture(scope="module", autouse=True)
def say_what_was_left_to_the_cpu():
    yield
    sys.stdout.write(f"\nleft to the CPU: {dict(ON_CPU.most_common())}\n")
