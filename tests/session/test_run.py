"""What is said when a run fails."""

import numpy as np
import onnx
import pytest

from onnxsal.errors import OnnxsalError, OutOfMemory
from onnxsal.session import Session

# ONNX Runtime's arena, what it hands on from CUDA and its libraries, and the C++ library.
WITHOUT_MEMORY = [
    "Non-zero status code returned while running Conv. Failed to allocate memory for requested buffer of size 4096",
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0",
    "[ONNXRuntimeError] : 1 : FAIL : CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
]


@pytest.fixture
def session() -> Session:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    return Session(onnx.parser.parse_model(text).SerializeToString(), ["CPUExecutionProvider"])


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, names, feeds):
        raise self.error


@pytest.mark.parametrize("error", [*map(RuntimeError, WITHOUT_MEMORY), MemoryError()], ids=lambda e: str(e)[-20:])
def test_a_run_that_finds_no_memory_is_told_from_others_that_fail(session, monkeypatch, error):
    monkeypatch.setattr(session, "_session", Failing(error))
    with pytest.raises(OutOfMemory, match="too little memory to run the model"):
        session.run({"x": np.zeros(2, np.float32)})


def test_a_run_that_fails_otherwise_says_so(session):
    with pytest.raises(OnnxsalError, match="failed to run the model") as raised:
        session.run({"x": np.zeros((2, 2), np.float32)})
    assert not isinstance(raised.value, OutOfMemory)
