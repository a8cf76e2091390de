"""Samples through a session: those of one size together, what was run already not again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxsal.explanation.compiled import CompiledExplainer
from onnxsal.explanation.inputs import OtherInputs, Sample
from onnxsal.explanation.scores import class_scores
from onnxsal.targets import TOP, Target, check_range

Array = npt.NDArray[Any]


def by_size(samples: Sequence[Sample]) -> list[list[int]]:
    """Return the positions of the samples, those whose model inputs are of one shape together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.x.shape, []).append(i)
    return list(groups.values())


def feeds_of(rows: Sequence[int], samples: Sequence[Sample], image: str, others: OtherInputs) -> dict[str, Array]:
    """Return the inputs of the samples at `rows`."""
    return {image: np.concatenate([samples[i].x for i in rows])} | others.at(rows)


class ExplainerRun:
    """An explainer and its inputs; what was run already is not run again."""

    def __init__(self, explainer: CompiledExplainer, feeds: Mapping[str, Array], count: int, batch_size: int) -> None:
        self.explainer = explainer
        self._feeds = dict(feeds)
        self._count = count
        self._batch_size = batch_size
        self._done: dict[tuple[bytes, int | None], dict[str, Array]] = {}

    def __call__(self, index: Array, minus: int | None) -> dict[str, Array]:
        key = (index.tobytes(), minus)
        if key not in self._done:
            feeds = self._feeds | {"target": index}
            if minus is not None:
                feeds["target_minus"] = np.full(self._count, minus, np.int64)
            self._done[key] = self.explainer.session.run(feeds, batch_size=self._batch_size)
        return self._done[key]

    def check(self, targets: Sequence[Target]) -> None:
        """Check targets against the number of classes, where only a run tells it; the compiled graph would fail.

        Raises:
            TargetError: A class or a rank is beyond the last.
        """
        head = self.explainer.facts["findings"]
        numbered = any(t.form.kind != "neuron" and (t.rank or t.index != TOP) for t in targets)
        if numbered and head.get("class_output") and head.get("classes") is None:
            check_range(targets, self._scores().shape[1])

    def ranked(self, rank: int) -> Array:
        """Return the class of that rank for each sample, 1 the top."""
        order = np.argsort(-self._scores(), axis=1, kind="stable")
        ranked: Array = order[:, rank - 1].astype(np.int64)
        return ranked

    def _scores(self) -> Array:
        """Return the scores of all classes, (samples, classes)."""
        head = self.explainer.facts["findings"]
        minus = 0 if "target_minus" in self.explainer.session.inputs else None
        results = self(np.full(self._count, TOP, np.int64), minus)
        return class_scores(results[head["class_output"]], head)[0]
