"""A model that is open: its sessions, and what was found out about it once for all."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy.typing as npt

from onnxsal import __version__
from onnxsal.detectors.preparation import PREPARATION
from onnxsal.errors import OnnxsalError, TargetError
from onnxsal.explanation.compiled import Compiler
from onnxsal.explanation.sharing import open_model
from onnxsal.explanation.subject import Sessions
from onnxsal.model.card import ResolvedCard
from onnxsal.model.network import Network
from onnxsal.session import Cache, Session, resolve_providers, runtime_version

Array = npt.NDArray[Any]

# Raised whenever something else is found out about the same model, so that old entries are not found.
FORMAT = 7


class Opened:
    """What it takes to run a model and explainers of it; made when first asked for.

    Attributes:
        network: The model as data.
    """

    def __init__(self, network: Network, providers: Sequence[str] | str | None, cache: Cache) -> None:
        """Open a network on `providers`."""
        self.network = network
        self._cache = cache
        self._asked = providers

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        path = self.network.source.path
        return path.stem if path else "model"

    @cached_property
    def providers(self) -> list[str]:
        """Where it runs."""
        return resolve_providers(self._asked)

    @cached_property
    def compiler(self) -> Compiler:
        """Makes explainers."""
        return Compiler(self.network, self.providers, self._cache)

    @cached_property
    def plain(self) -> Session:
        """The model as it is."""
        return open_model(self.network.source, self.providers)

    def sessions(self, others: Mapping[str, Array], batch_size: int | None) -> Sessions:
        """Return what loops need, for one sample's other inputs."""
        image, card = self.network.card.image, self.network.card.card
        batched = self.one_at_a_time and self.can_batch
        single = image.dim(0) is None and self.one_at_a_time
        return Sessions(self.compiler, self.plain, card, self.head, image.name, others, batched, single, batch_size)

    def provenance(self, session: Session) -> dict[str, str]:
        """Return what made an explanation."""
        return {
            "model": self.name,
            "model_sha256": self.network.sha256,
            "onnxsal": __version__,
            "onnxruntime": runtime_version(),
            "provider": session.providers[0],
        }

    # ----- What was found out about it -----

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes."""
        card = self.network.card.card
        return None if card.classes is None else [card.label_of(i) for i in range(card.classes)]

    @cached_property
    def head(self) -> dict[str, Any]:
        """What was found about the classes, as JSON types; kept on disk. Scores of boxes are no classes."""
        facts: dict[str, Any] = self._kept("head", lambda: self.network.findings().summary())
        if not self.detector_head:
            return facts
        return facts | {"class_output": None, "reason": f"it is a detector ({self.detector_head[0]}): use detect"}

    @property
    def class_output(self) -> str:
        """The output that has the classes' scores.

        Raises:
            TargetError: There is none.
        """
        output = self.head.get("class_output")
        if output is None:
            raise TargetError(f"the model predicts no classes: {self.head.get('reason')}")
        return str(output)

    @cached_property
    def detector_head(self) -> list[str]:
        """Names of the decoders that fit, the surest first, none of a model of classes; kept on disk."""
        found: list[str] = self._kept("decoders", self._find_decoders)
        return found

    def prepared(self) -> ResolvedCard:
        """Return the card, with what is usual for the head where nothing speaks for what it says."""
        card = self.network.card
        if not card.blind & {"scale", "resize"}:
            return card
        with suppress(OnnxsalError):  # what cannot be read is told when something is asked of it
            for name in self.detector_head[:1]:
                return card.guessing(f"guess: as {name} is usually fed", PREPARATION.get(name, {}))
        return card

    def _find_decoders(self) -> list[str]:
        from onnxsal.methods.detector import find_heads

        return [candidate.name for candidate in find_heads(self.network)]

    @cached_property
    def one_at_a_time(self) -> bool:
        """Whether a run takes one image, or another fixed number: the file says so, or its graph knows no other."""
        declared = self.network.card.image.dim(0) is not None
        return declared or bool(self._kept("one at a time", lambda: self.network.one_at_a_time))

    @cached_property
    def can_batch(self) -> bool:
        """Whether several images can share one run: tried on random rows where the file takes one at a time."""
        if not self.one_at_a_time:
            return False  # any number fits already
        return bool(self._kept("batch", self._try_batch))

    def _try_batch(self) -> bool:
        from onnxsal.explanation.batching import batch_agrees

        return batch_agrees(self.network, self.plain, self.providers)

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        """Return what was found out about this model, in an earlier run maybe."""
        key = [FORMAT, __version__, self.network.sha256, self.network.reading_key]
        name = f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.{what}.json"
        found = self._cache.read_json(name)
        if found is None:
            found = make()
            self._cache.add_json(name, found)
        return found
