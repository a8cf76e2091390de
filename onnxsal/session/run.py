"""Run one ONNX graph, in batches."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import ModelError, OnnxsalError, OutOfMemory, RuntimeMissing
from onnxsal.session.lending import Weights, open_lending
from onnxsal.session.pages import LargePages
from onnxsal.session.runtime import load_runtime

Array = npt.NDArray[Any]

CPU = "CPUExecutionProvider"
QUIET = 3  # errors only; files of IR 3 warn once per weight
NO_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "out of memory", "alloc_failed")
"""What ONNX Runtime, the C++ library, CUDA and its libraries say when there is none left."""


class Session:
    """A session of ONNX Runtime on one graph.

    Attributes:
        inputs: Shape by name of input.
        types: ONNX Runtime's name of the type, such as `tensor(float)`, by name of input.
        outputs: Names of the outputs.
        metadata: The graph's `metadata_props`.
        providers: ONNX Runtime's names of the providers in use.
        fixed_batch: How many samples the graph is fixed to; None where it takes any number.
        pages: Large pages for what the session works on; None on another device than the processor.
    """

    def __init__(
        self,
        source: Path | bytes,
        providers: Sequence[str],
        *,
        threads: int | None = None,
        weights: Weights | None = None,
        packed: bool = True,
    ) -> None:
        """Open a session.

        Args:
            source: A file (faster, and needed beyond 2 GB), or a serialised model.
            providers: ONNX Runtime's names, from `resolve_providers`.
            threads: Threads within an operator; None leaves it to ONNX Runtime.
            weights: Stand in for initializers, and are read where they lie.
            packed: Let ONNX Runtime copy weights into the order that is fastest; False where that is too much.

        Raises:
            ModelError: ONNX Runtime refuses the model.
            RuntimeMissing: A provider that was asked for did not come up.
        """
        runtime = load_runtime()
        graph = str(source) if isinstance(source, Path) else source
        self.pages = LargePages() if providers[0] == CPU else None
        make = partial(_options, runtime, threads, packed=packed and not weights)
        try:
            if weights:
                self._session, self._weights = open_lending(runtime, graph, make, providers, weights), weights
            else:
                self._session = runtime.InferenceSession(graph, make(), providers=list(providers))
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            raise ModelError(f"ONNX Runtime cannot load the model: {first_line(error)}") from error
        self.providers: list[str] = self._session.get_providers()
        _check_providers(providers, self.providers)
        self.inputs: dict[str, list[int | str | None]] = {i.name: i.shape for i in self._session.get_inputs()}
        self.fixed_batch = _fixed_batch(list(self.inputs.values()))
        self.types: dict[str, str] = {i.name: i.type for i in self._session.get_inputs()}
        self.outputs: list[str] = [o.name for o in self._session.get_outputs()]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None, *, batch_size: int | None = None
    ) -> dict[str, Array]:
        """Run all samples and return their outputs, put together again.

        A graph whose batch is fixed gets as many samples at a time as it is made for; inputs with one
        sample serve all.

        Args:
            feeds: Array by name of input; axis 0 is the batch, if the input `carries_samples`.
            outputs: Names of the outputs wanted; None is all.
            batch_size: Samples at a time; None is all at once.
        """
        names = list(outputs if outputs is not None else self.outputs)
        count = max((a.shape[0] for name, a in feeds.items() if a.ndim and self.carries_samples(name)), default=1)
        fixed = self.fixed_batch
        step = fixed or batch_size or count
        if step >= count and not (fixed and fixed > count):
            return self._run_once(feeds, names, count)
        parts = [self._chunk(feeds, names, start, step, count, fixed) for start in range(0, count, step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def run_whole(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run once on exactly these arrays: inputs need not agree on how many samples there are."""
        return self._run_once(feeds, list(outputs if outputs is not None else self.outputs), 1)

    def carries_samples(self, name: str) -> bool:
        """Tell whether the first axis of an input is the batch; else it is one number or table for all samples."""
        first = next(iter(self.inputs.get(name) or []), 0)
        return not isinstance(first, int) or first == self.fixed_batch

    def _chunk(
        self, feeds: Mapping[str, Array], names: list[str], start: int, step: int, count: int, fixed: int | None
    ) -> dict[str, Array]:
        whole = {k for k, a in feeds.items() if a.ndim == 0 or not self.carries_samples(k)}
        some = {
            k: a if k in whole or a.shape[0] != count or count == 1 else a[start : start + step]
            for k, a in feeds.items()
        }
        size = min(step, count - start)
        if fixed and size < fixed:  # fill up a fixed batch with copies, and drop what they yield
            some = {
                k: a if k in whole else np.concatenate([a, np.repeat(a[-1:], fixed - len(a), axis=0)])
                for k, a in some.items()
            }
        results = self._run_once(some, names, fixed or size)
        return {name: a[:size] for name, a in results.items()}

    def _run_once(self, feeds: Mapping[str, Array], names: list[str], count: int) -> dict[str, Array]:
        one = {k for k, a in feeds.items() if a.ndim and a.shape[0] == 1 and self.carries_samples(k)}
        repeated = {k: np.repeat(a, count, axis=0) if k in one and count > 1 else a for k, a in feeds.items()}
        begin = time.perf_counter()
        try:
            results = self._session.run(names, repeated)
        except Exception as error:  # as above
            if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
                raise OutOfMemory(f"too little memory to run the model: {first_line(error)}") from error
            raise OnnxsalError(f"ONNX Runtime failed to run the model: {first_line(error)}") from error
        if self.pages is not None:
            self.pages.after_run(time.perf_counter() - begin)
        return dict(zip(names, results, strict=True))


def _fixed_batch(shapes: Sequence[Sequence[int | str | None]]) -> int | None:
    """Return the number of samples that a graph is fixed to, if it is, from the shapes of its inputs.

    Those of most axes, which are the images, say it. An input of one row beside images of any number, as detectors
    have it for sizes, means one image too.
    """
    known = [shape for shape in shapes if len(shape) >= 2]
    most = max(map(len, known), default=0)
    said = [n for shape in known if isinstance(n := shape[0], int) and (len(shape) == most or n == 1)]
    return max(said, default=None)


def _options(runtime: ModuleType, threads: int | None, *, packed: bool) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = QUIET
    # Gradients need less memory without the pre-computed pattern, at the same speed (ResNet-50, batch 8: 889 MB,
    # not 1341).
    options.enable_mem_pattern = False
    # Threads that wait for more work after a run take a core for tens of milliseconds, from other sessions above all:
    # MobileNetV2, its gradient and its Grad-CAM in turn on two cores, 75 ms; if they stop with the run, 25.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _check_providers(asked: Sequence[str], got: Sequence[str]) -> None:
    """ONNX Runtime falls back to the CPU after a line on stderr; that would be another machine than asked for."""
    missing = [p for p in asked if p not in got]
    if missing:
        raise RuntimeMissing(
            f"provider {missing[0]} did not start (ONNX Runtime fell back to {', '.join(got)}): check its driver and "
            f"libraries, for CUDA `pip install 'onnxsal[cuda]'`; or explain on the CPU"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without ONNX Runtime's prefix."""
    text = str(error).strip().splitlines()
    return text[0].split(" : ", 2)[-1] if text else type(error).__name__
