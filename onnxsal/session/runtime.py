"""The ONNX Runtime that is installed, and its execution providers."""

import importlib.metadata
from collections.abc import Sequence
from functools import cache
from types import ModuleType

from onnxsal.errors import RuntimeMissing

# All of them unpack into the same folder `onnxruntime`: two at once break each other
# (microsoft/onnxruntime#26807).
BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
    "onnxruntime-training",
    "onnxruntime-silicon",
)
# onnxruntime-qnn is a plug-in to the plain build from this version on, no build of its own.
_PLUGIN_SINCE = {"onnxruntime-qnn": (2, 0)}

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


@cache
def load_runtime() -> ModuleType:
    """Return the module `onnxruntime`.

    Raises:
        RuntimeMissing: It is absent, broken, or installed in two builds.
    """
    builds = installed_builds()
    if len(builds) > 1:
        raise RuntimeMissing(
            f"two builds of ONNX Runtime are installed, {' and '.join(builds)}, which overwrite each other; keep one: "
            f"pip uninstall -y {' '.join(builds)} && pip install {_preferred(builds)}"
        )
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018 - uninstalling one of two builds leaves an empty namespace behind
    except (ImportError, AttributeError) as error:
        reason = f" ({str(error).splitlines()[0]})" if builds else ""
        fix = (
            f"pip install --force-reinstall {builds[0]}"
            if builds
            else "pip install 'onnxsal[cpu]', or 'onnxsal[gpu]' for CUDA"
        )
        raise RuntimeMissing(f"ONNX Runtime is not {'working' if builds else 'installed'}{reason}: {fix}") from error
    module: ModuleType = onnxruntime
    return module


def installed_builds() -> list[str]:
    """Return the names of the installed distributions that provide `onnxruntime`."""
    found = []
    for name in BUILDS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        since = _PLUGIN_SINCE.get(name)
        if since is None or tuple(int(p) for p in version.split(".")[:2] if p.isdigit()) < since:
            found.append(name)
    return found


def _preferred(builds: Sequence[str]) -> str:
    """Return the build to keep: the one that can do more."""
    return next((b for b in builds if b != "onnxruntime"), builds[0])


def runtime_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(load_runtime().__version__)


def resolve_providers(providers: str | Sequence[str] | None) -> list[str]:
    """Return ONNX Runtime's names of the providers asked for, the CPU behind them.

    Args:
        providers: Short names (`cpu`, `cuda`, `tensorrt`, ...) or ONNX Runtime's own; None is the CPU.

    Raises:
        RuntimeMissing: The build installed does not have one of them.
    """
    asked = [providers] if isinstance(providers, str) else list(providers or ["cpu"])
    available = load_runtime().get_available_providers()
    names = []
    for provider in asked:
        name = SHORT_NAMES.get(provider.lower(), provider)
        if name not in available:
            have = ", ".join(_short(p) for p in available)
            raise RuntimeMissing(
                f"provider {provider!r} is not in the installed ONNX Runtime, which has {have}{_hint(name)}"
            )
        names.append(name)
    return list(dict.fromkeys([*names, "CPUExecutionProvider"]))


def _short(name: str) -> str:
    return next((short for short, full in SHORT_NAMES.items() if full == name), name)


def _hint(name: str) -> str:
    extra = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}.get(name)
    return f"; install it: pip uninstall -y onnxruntime && pip install 'onnxsal[{extra}]'" if extra else ""
