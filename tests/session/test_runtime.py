"""None, or two builds of ONNX Runtime, is one clear line with the command that mends it."""

import importlib.metadata
import sys

import pytest

from onnxsal.errors import ModelError, RuntimeMissing
from onnxsal.session import Session, resolve_providers
from onnxsal.session.runtime import installed_builds, load_runtime


def pretend(monkeypatch, **versions):
    """Let only these distributions be installed."""

    def version(name):
        found = versions.get(name.replace("-", "_"))
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    load_runtime.cache_clear()


def test_no_runtime_names_the_extra(monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing, match=r"not installed: pip install 'onnxsal\[cpu\]'"):
        load_runtime()


def test_two_runtimes_are_refused_with_the_command_that_keeps_one(monkeypatch):
    pretend(monkeypatch, onnxruntime="1.31.1", onnxruntime_gpu="1.31.1")
    with pytest.raises(
        RuntimeMissing, match="pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    ):
        load_runtime()


def test_a_runtime_that_another_build_broke_is_installed_anew(monkeypatch):
    pretend(monkeypatch, onnxruntime_gpu="1.31.1")
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))  # an empty namespace is left
    with pytest.raises(RuntimeMissing, match="not working.*--force-reinstall onnxruntime-gpu"):
        load_runtime()


def test_a_plug_in_is_not_a_second_build(monkeypatch):
    pretend(monkeypatch, onnxruntime="1.31.1", onnxruntime_qnn="2.7.0")
    assert installed_builds() == ["onnxruntime"]


def test_short_names_stand_for_providers():
    assert resolve_providers("cpu") == ["CPUExecutionProvider"]
    assert resolve_providers(None) == ["CPUExecutionProvider"]


def test_a_provider_that_the_build_lacks_is_named_with_those_it_has():
    with pytest.raises(RuntimeMissing, match="provider 'coreml' is not in the installed ONNX Runtime, which has .*cpu"):
        resolve_providers("coreml")


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(ModelError, match="cannot load the model"):
        Session(b"nonsense", ["CPUExecutionProvider"])
