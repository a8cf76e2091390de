"""What becomes a model of arrays: a file whose input can hold no image, or a Python function."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxsal.errors import MethodError
from onnxsal.explanation.arrays import Array, ArrayModel, Predict
from onnxsal.model.series import has_time_last
from onnxsal.model.source import Source
from onnxsal.session import Session, resolve_providers, runtime_version


def of_file(source: Source, providers: Sequence[str] | str | None, labels: Sequence[str] | None) -> ArrayModel:
    """Return an ONNX model that takes no image, such as a tree ensemble, as a model of arrays.

    Args:
        source: The file.
        providers: ONNX Runtime's execution providers; None is the CPU.
        labels: One per class.
    """
    (info,) = source.signature.inputs
    session = Session(source.runnable(), resolve_providers(providers))

    def predict(x: Array) -> Any:
        results = session.run_whole({info.name: x})
        # Classifiers of scikit-learn give the label first, then a probability for each class.
        return next((a for a in results.values() if not _is_label(a)), next(iter(results.values())))

    origin = {"model_sha256": source.sha256, "onnxruntime": runtime_version(), "provider": session.providers[0]}
    name = source.path.stem if source.path else "model"
    shape = None if info.shape is None else [d if isinstance(d, int) else None for d in info.shape]
    return ArrayModel(
        predict,
        name=name,
        shape=shape,
        dtype=info.dtype,
        labels=labels,
        provenance={"model": name} | origin,
        time_last=shape is not None and len(shape) == 3 and has_time_last(source, info.name),
    )


def takes_arrays(source: Source) -> bool:
    """Tell whether a model has one input, of numbers, that can hold no image."""
    inputs = source.signature.inputs
    if len(inputs) != 1 or inputs[0].shape is None or len(inputs[0].shape) not in (2, 3):
        return False
    return inputs[0].dtype.startswith(("float", "int", "uint", "bool"))


def _is_label(answer: Any) -> bool:
    return isinstance(answer, np.ndarray) and answer.dtype.kind not in "f"


def of_function(function: Predict, labels: Sequence[str] | None) -> ArrayModel:
    """Return a Python function as a model.

    Args:
        function: Maps samples (n, ...) to scores (n, K), or (n,).
        labels: One per class.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.isclass(function):
        raise MethodError(f"{name} is a class: give an object, or a function")
    return ArrayModel(function, name=name, shape=None, labels=labels)
