"""Explainers compiled for one model: built once, kept in memory and on disk."""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxsal import __version__
from onnxsal.errors import ModelError
from onnxsal.explanation.sharing import open_session, own_bytes, save_model
from onnxsal.graph.footprint import Footprint
from onnxsal.methods.registry import Method
from onnxsal.model.network import Network
from onnxsal.model.source import PROTOBUF_LIMIT
from onnxsal.session import Cache, Session
from onnxsal.targets import Form

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.detectors.detections import Kind
    from onnxsal.detectors.matching import Candidates
    from onnxsal.graph.runtimes import RuntimeName
    from onnxsal.methods.detector import Reading

# Raised whenever what is built for the same method changes, so that old entries are not found.
FORMAT = 22
MOST_SESSIONS = 8
"""Sessions that a model keeps open, those used last: each has the weights for itself (40 layers of MobileNetV2, whose
weights take 14 MB, by Grad-CAM: 1.6 GB)."""


@dataclass(frozen=True, eq=False)
class CompiledExplainer:
    """An explainer graph, ready to run.

    Attributes:
        session: Runs it.
        facts: What was found and chosen when it was built: `layer`, `rectifiers`, `findings`.
    """

    session: Session
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Loop:
    """What a session is opened for that will have other runs beside it.

    Attributes:
        shape: Of the model's input, (1, ...).
        threads: From what a sample takes in a run to how many threads a run gets; None leaves it to ONNX Runtime.
    """

    shape: tuple[int, ...]
    threads: Callable[[Footprint], int | None]


class Compiler:
    """Builds explainers for one network, and keeps them."""

    def __init__(self, network: Network, providers: list[str], cache: Cache) -> None:
        """Compile for `network`, to run on `providers`."""
        self._network = network
        self._providers = providers
        self._cache = cache
        self._ready: dict[tuple[str, int | None], CompiledExplainer] = {}
        self._footprints: dict[str, dict[str, int]] = {}
        self._scratch: Path | None = None

    @property
    def runtime(self) -> "RuntimeName":
        """What explainers are written for that run here."""
        return "native" if self._providers[0] == "CPUExecutionProvider" else "gpu"

    def explainer(
        self,
        method: Method,
        form: Form,
        reading: "Reading | None" = None,
        *,
        batched: bool = False,
        loop: Loop | None = None,
        bare: bool = False,
    ) -> CompiledExplainer:
        """Return the explainer of a method and a form of target, built if there is none yet.

        Args:
            method: The method, with its settings.
            form: The form of the target.
            reading: How a detector's head is read, for a target that is a detection.
            batched: Build it for any number of samples, for a model whose own batch is fixed.
            loop: What its session is opened for, if it has other runs beside.
            bare: As for `build_explainer`.
        """
        key = [repr(method), repr(form), repr(reading), batched, self.runtime, *(["bare"] if bare else [])]
        return self._kept(key, lambda: self.build(method, form, reading, batched=batched, bare=bare), loop)

    def masked(
        self, outputs: Sequence[str], *, filled: bool, batched: bool = False, loop: Loop | None = None
    ) -> CompiledExplainer:
        """Return the model with a mask before its image (`methods.masked`).

        Args:
            outputs: Names of the outputs to keep.
            filled: Whether anything but zero is seen where the mask hides.
            batched: As for `explainer`.
            loop: Likewise.
        """

        def build() -> "ir.Model":
            from onnxsal.methods.masked import build_masked

            image, layout = self._network.card.image.name, self._network.card.card.layout or "NCHW"
            model = build_masked(self._network.graph(batched=batched), image, layout, outputs, filled=filled)
            model.metadata_props["onnxsal.explainer"] = "{}"
            return model

        return self._kept(["masked", list(outputs), filled, batched], build, loop)

    def detector(self, reading: "Reading", *, batched: bool = False) -> CompiledExplainer:
        """Return the model with its proposals as outputs: `boxes`, `probabilities`, `objectness`.

        Raises:
            DetectorError: No decoder fits the model, or not the one of that name.
        """

        def build() -> "ir.Model":
            from onnxsal.methods.detector import build_detector

            return build_detector(self._network, reading, batched=batched)

        return self._kept(["detector", repr(reading), batched], build)

    def probe(self, names: Sequence[str], *, batched: bool = False) -> CompiledExplainer:
        """Return the model with inner values as its outputs."""

        def build() -> "ir.Model":
            from onnxsal.methods.detector import build_probe

            return build_probe(self._network, names, batched=batched)

        return self._kept(["probe", list(names), batched], build)

    def peelable(self, *, batched: bool = False) -> "Candidates":
        """Return the names of values that may hold boxes and scores before suppression (`detectors.matching`)."""
        from onnxsal.detectors.matching import candidates

        return candidates(self._network.graph(batched=batched))

    def origin(self, reading: "Reading", *, batched: bool = False) -> CompiledExplainer:
        """Return the model that says which layer a proposal comes from (`methods.origin`)."""

        def build() -> "ir.Model":
            from onnxsal.methods.origin import build_origin

            return build_origin(self._network, reading, batched=batched)

        return self._kept(["origin", repr(reading), batched], build)

    def masked_detector(
        self,
        reading: "Reading",
        kind: "Kind",
        *,
        filled: bool,
        batched: bool = False,
        loop: Loop | None = None,
    ) -> CompiledExplainer:
        """Return the masked model that answers how well detections are found again (`detectors.similarity`)."""

        def build() -> "ir.Model":
            from onnxsal.methods.detector import build_masked_detector

            return build_masked_detector(self._network, reading, kind, filled=filled, batched=batched)

        return self._kept(["masked detector", repr(reading), kind, filled, batched], build, loop)

    def build(
        self,
        method: Method,
        form: Form,
        reading: "Reading | None" = None,
        *,
        batched: bool = False,
        runtime: "RuntimeName | None" = None,
        bare: bool = False,
    ) -> "ir.Model":
        """Return the explainer graph itself, its facts in its metadata.

        The runtime it is written for is what runs it here, if none is named.
        """
        from onnxsal.methods.explainer import build_explainer, describe

        graph = self._network.graph(batched=batched)
        findings = self._network.findings(batched=batched)
        decode = None
        if form.kind == "box":
            from onnxsal.methods.detector import Reading, read_head

            decode = read_head(self._network, reading or Reading(), batched=batched).decode
        explainer = build_explainer(graph, findings, method, form, runtime or self.runtime, decode, bare=bare)
        explainer.model.metadata_props.update(describe(explainer, method, form, findings))
        return explainer.model

    def _kept(
        self, what: Sequence[object], build: Callable[[], "ir.Model"], loop: Loop | None = None
    ) -> CompiledExplainer:
        """Return the session of a graph, built if it is neither in memory nor on disk."""
        key = [FORMAT, _versions(), self._network.sha256, self._network.reading_key, *what]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest() + ".onnx"
        build = cache(build)
        count = None if loop is None else loop.threads(self._footprint(name, build, loop.shape))
        found = self._ready.pop((name, count), None) or self._open(name, count) or self._compile(name, build(), count)
        self._ready[name, count] = found  # behind all others, as it was used last
        while len(self._ready) > MOST_SESSIONS:
            self._ready.pop(next(iter(self._ready)), None)
        return found

    def _footprint(self, name: str, build: Callable[[], "ir.Model"], shape: tuple[int, ...]) -> Footprint:
        """Return what one sample takes in a run of the graph of that name; kept on disk."""
        file = f"{name}.{'x'.join(map(str, shape))}.json"
        known = self._footprints.get(file) or self._cache.read_json(file)
        if known is None:
            from onnxsal.graph.measuring import measure

            images = (self._network.card.image.name, "mask_shown", "mask_fill")
            known = vars(measure(build(), dict.fromkeys(images, shape)))
            self._cache.add_json(file, known)
        self._footprints[file] = known
        return Footprint(**known)

    def _open(self, name: str, threads: int | None) -> CompiledExplainer | None:
        path = self._cache.find(name) or self._find_scratch(name)
        if path is None:
            return None
        try:
            return self._session(path, threads)
        except ModelError:  # a damaged entry: build it again
            self._cache.remove(name)
            return None

    def _compile(self, name: str, model: "ir.Model", threads: int | None) -> CompiledExplainer:
        one_file = own_bytes(model) < PROTOBUF_LIMIT
        path = self._cache.add(name, lambda path: save_model(model, path, name)) if one_file else None
        if path is None:  # no cache, or the model is too large for it
            path = self._scratch_folder() / name
            save_model(model, path)
        return self._session(path, threads)

    def _find_scratch(self, name: str) -> Path | None:
        """Return a graph that was written where there is no cache for it."""
        path = None if self._scratch is None else self._scratch / name
        return path if path is not None and path.exists() else None

    def _scratch_folder(self) -> Path:
        """Return a folder that goes when the compiler does."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="onnxsal-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def _session(self, path: Path, threads: int | None) -> CompiledExplainer:
        session = open_session(path, self._network.source, self._providers, threads)
        if "onnxsal.explainer" not in session.metadata:
            raise ModelError("a compiled graph without its facts")
        facts = json.loads(session.metadata["onnxsal.explainer"])
        return CompiledExplainer(session, facts)


@cache
def _versions() -> list[str]:
    try:
        return [__version__, version("onnx-ir")]
    except PackageNotFoundError:  # onnx-ir on the path without its metadata
        return [__version__, "?"]
