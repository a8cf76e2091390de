"""Models of anything: arrays in, scores out. Black-box methods need no more of a model, or of a Python function.

A sample is a vector of features, a time series (steps, features), or any array; masks hide features, or stretches of
time, as they hide parts of a photo.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.errors import ImageError, MethodError, TargetError, UnsupportedModel
from onnxsal.explanation.array_subject import METHODS, ArraySubject
from onnxsal.explanation.explanation import Explanation, Prediction
from onnxsal.explanation.loop_options import LoopOptions, check_count, read_options
from onnxsal.explanation.planes import plane_of
from onnxsal.explanation.sampled import method_without_count
from onnxsal.maps import scale_to_unit
from onnxsal.methods import find_method, make_method
from onnxsal.methods.noise import as_input
from onnxsal.methods.presets import with_preset
from onnxsal.methods.subject import Sampled, SampledMethod
from onnxsal.targets import TOP, Target, check_range, parse_target

if TYPE_CHECKING:
    from PIL import Image


Array = npt.NDArray[Any]
Predict = Callable[[Array], Any]
BATCH_SIZE, BATCH_BYTES = 256, 64 << 20
"""Samples in a run, at most, and what they may take."""


class ArrayExplanation(Explanation):
    """Why a model of arrays gave one score for one sample; `photo` is the map drawn as bars or cells."""

    def overlay(self, *, alpha: float = 0.7, colormap: str | None = None) -> "Image.Image":
        """Return the map as a picture of its own."""
        return self.photo


class ArrayModel:
    """A model whose input is not an image, or a Python function. Made by `onnxsal.load`.

    Attributes:
        name: What to call it.
        shape: Of its input, the batch first: numbers, and None where any size fits; None if nothing is known.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        name: str,
        shape: Sequence[int | None] | None,
        dtype: str = "float32",
        labels: Sequence[str] | None = None,
        provenance: Mapping[str, str] | None = None,
        time_last: bool = False,
    ) -> None:
        """Wrap a function.

        Args:
            predict: Maps samples (n, ...) to scores: (n, K), (n,), or one mapping from class to score for each.
            name: What to call it.
            shape: Of its input.
            dtype: NumPy's name of the input's type.
            labels: One per class.
            provenance: What explanations say of where they come from.
            time_last: Whether the steps of a series lie along the last axis, as before a convolution.
        """
        self.time_last = time_last
        self.name, self.shape = name, None if shape is None else tuple(shape)
        self._predict, self._dtype, self._labels = predict, np.dtype(dtype), None if labels is None else list(labels)
        self._provenance = dict(provenance or {"model": name})

    def __repr__(self) -> str:
        """Return the name and the shape of the input."""
        return f"<onnxsal.ArrayModel {self.name!r}, input {self.shape or 'of any shape'}>"

    # ----- What it predicts -----

    def scores(self, x: Array) -> npt.NDArray[np.float64]:
        """Return the scores (n, K) of samples (n, ...)."""
        return as_table(self._predict(as_input(x, self._dtype)), len(x))

    def predict(self, x: Any, top: int = 5) -> Any:
        """Return the best classes of a sample, best first: a list of `Prediction`, or one such list per sample.

        Raises:
            ImageError: `x` does not fit the model.
        """
        samples, single = self._read(x)
        found = [list(self._ranked(row, top)) for row in self.scores(np.concatenate(samples))]
        return found[0] if single else found

    def _ranked(self, row: npt.NDArray[np.float64], top: int) -> Iterator[Prediction]:
        for index in np.argsort(-row, kind="stable")[:top]:
            yield Prediction(int(index), self._label(int(index)), float(row[index]), float(row[index]))

    def _label(self, index: int) -> str:
        known = self._labels is not None and index < len(self._labels)
        return self._labels[index] if known and self._labels is not None else f"class {index}"

    # ----- Why -----

    def read_target(self, target: str | int | Target | None) -> list[Target]:
        """Return what a text asks for: one target, or three for `top:3`.

        Raises:
            TargetError: There is no such class, or the text asks for something of an image.
        """
        targets = parse_target(target, self._labels, None)
        # Whether answers are probabilities or logits nobody says, so that `prob:` could promise nothing.
        if any(t.form.kind not in ("logit", "contrast") or t.form.pixels == "mask" for t in targets):
            raise TargetError(f"{targets[0].text!r} means nothing here: use top, a class index, or a label")
        return [replace(t, form=replace(t.form, pixels="all")) for t in targets]

    def explain(
        self,
        x: Any,
        method: str = "rise",
        target: str | int | Target | None = None,
        *,
        batch_size: int | None = None,
        loop: LoopOptions | None = None,
        like: str | None = None,
        **settings: Any,
    ) -> Any:
        """Return why the model gives the target its score: an `Explanation`, or a list of them.

        Its `attribution` has the shape of a sample, of an image without channels; `heatmap` is its positive part, in
        [0, 1].

        Args:
            x: A sample, a batch of samples, a .npy file, or a list of these. What a function answers to is a sample
                first; four axes are a batch of images.
            method: `rise` or `occlusion`.
            target: `top` (default), `top:3`, a class index, a label, `281-285`.
            batch_size: Samples in a run; None takes 256, fewer of large ones.
            loop: Workers, early end, checkpoint, progress.
            like: The library whose conventions are taken, as of models of images.
            **settings: The method's own settings; they win over `like`. A sample of three axes, of which the first or
                the last has 1, 3 or 4 entries, is an image. Of any other, cells are stretches of the first axis, of a
                series that a convolution reads the last; each entry of the other axes, and of a vector, is a cell of
                its own; `window` and `stride` of occlusion count along the same axis.

        Raises:
            OnnxsalError: The sample, the method or the target does not fit the model.
        """
        check_count("batch_size", batch_size)
        made, options = self._method(method, settings, like), read_options(loop)
        samples, single = self._read(x)
        targets = self.read_target(target)
        flat: list[Explanation] = []
        for i, sample in enumerate(samples):
            part = f"sample {i}" if len(samples) > 1 else ""
            own = replace(options, part=part)
            *_, found = self._improve(sample, targets, method, made, batch_size, own, f"sample_{i}")
            flat += [explanation.credited(like) for explanation in found]
        return flat[0] if single and len(flat) == 1 else flat

    def improve(
        self,
        x: Any,
        method: str = "rise",
        target: str | int | Target | None = None,
        *,
        batch_size: int | None = None,
        loop: LoopOptions | None = None,
        like: str | None = None,
        **settings: Any,
    ) -> Iterator[list[Explanation]]:
        """Return an iterator over the explanations of one sample as they get better, a list with one for each target.

        The last is what `explain` returns; args and errors are those of `explain`, and checked before the first is
        taken.
        """
        check_count("batch_size", batch_size)
        made, options = self._method(method, settings, like), replace(read_options(loop), partial=True)
        samples, _ = self._read(x)
        if len(samples) != 1:
            raise MethodError(f"improve takes one sample, not {len(samples)}: use explain")
        targets = self.read_target(target)
        better = self._improve(samples[0], targets, method, made, batch_size, options, "sample_0")
        return ([explanation.credited(like) for explanation in found] for found in better)

    def _method(self, name: str, settings: Mapping[str, Any], like: str | None) -> SampledMethod:
        if find_method(name).name not in METHODS:
            raise MethodError(f"{name} needs an image, and {self._without_image()}")
        if "inputs" in settings:
            raise ImageError(f"{self.name} has no input beside the sample: {', '.join(settings['inputs'])} is none")
        made = make_method(name, with_preset(like, name, settings))
        assert isinstance(made, SampledMethod)
        return made

    def _improve(
        self,
        x: Array,
        targets: Sequence[Target],
        name: str,
        method: SampledMethod,
        batch_size: int | None,
        options: LoopOptions,
        called: str,
    ) -> Iterator[list[Explanation]]:
        table = self.scores(x)[0]
        check_range(targets, len(table))
        order = np.argsort(-table, kind="stable")
        settled = []
        for t in targets:
            index = int(order[(t.rank or 1) - 1]) if t.index == TOP else t.index
            settled.append(t.resolved(index, self._label(index)))
        # A function has nothing but its answers to be known by.
        job = [repr(method_without_count(method)), self._provenance, table.tolist()]
        subject = ArraySubject(self, x, settled, job, batch_size or samples_at_a_time(x), options)
        predictions = tuple(self._ranked(table, 5))
        scores = subject.pick(table[None], settled)[0]
        for maps in method.attribute(subject):
            yield [
                self._result(sampled, subject, t, float(score), name, method, predictions, called)
                for sampled, t, score in zip(maps, settled, scores, strict=True)
            ]

    def _result(
        self,
        sampled: Sampled,
        subject: ArraySubject,
        target: Target,
        score: float,
        name: str,
        method: SampledMethod,
        predictions: tuple[Prediction, ...],
        called: str,
    ) -> Explanation:
        from onnxsal.render import bars

        plane = subject.plane
        heat = scale_to_unit(np.maximum(sampled.attribution - np.float32(sampled.zero), 0))
        heat = heat.T if plane.time_last else heat
        is_image = plane.channel_axis is not None
        return (Explanation if is_image else ArrayExplanation)(
            attribution=plane.attribution(sampled.attribution),
            heatmap=heat,
            target=target,
            score=score,
            method=name,
            settings=vars(method) | ({"samples": sampled.samples} if hasattr(method, "samples") else {}),
            predictions=predictions,
            provenance=self._provenance,
            photo=plane.picture(subject.x) if is_image else bars(heat),
            name=called,
            error=None if sampled.error is None else plane.attribution(sampled.error),
        )

    def compile(self, *args: Any, **settings: Any) -> Any:
        """Refuse: only explanations of images are graphs.

        Raises:
            UnsupportedModel: Always.
        """
        raise UnsupportedModel(f"nothing to compile: {self._without_image()}")

    def inspect(self) -> Any:
        """Refuse: layers, classes and cards are found in models of images.

        Raises:
            UnsupportedModel: Always.
        """
        raise UnsupportedModel(f"nothing to inspect: {self._without_image()}")

    def detect(self, *args: Any, **settings: Any) -> Any:
        """Refuse: detections are found on images.

        Raises:
            UnsupportedModel: Always.
        """
        raise UnsupportedModel(f"nothing to detect: {self._without_image()}")

    def _without_image(self) -> str:
        return f"{self.name} has no image input (it takes {self.shape or 'any shape'}): explain it by rise or occlusion"

    # ----- Samples -----

    def count(self, x: Any) -> int:
        """Return how many samples there are in a file, an array or a list.

        Raises:
            ImageError: It does not fit the model.
        """
        return len(self._read(x)[0])

    def _read(self, x: Any) -> tuple[list[Array], bool]:
        """Return samples (1, ...), and whether there is only one, not a list or a batch."""
        if isinstance(x, list | tuple) and any(isinstance(part, str | os.PathLike | np.ndarray) for part in x):
            return [s for part in x for s in self._read(part)[0]], False
        array = _load(x) if isinstance(x, str | os.PathLike) else np.asarray(x)
        if array.dtype.kind not in "fiub" or array.size == 0:
            raise ImageError(f"{self.name} takes arrays of numbers, not {array.dtype} of shape {array.shape}")
        axes = None if self.shape is None else len(self.shape)
        is_batch = array.ndim == axes if axes is not None else self._takes_as_batch(array)
        batch = array if is_batch or axes not in (None, array.ndim + 1) else array[None]
        if axes is not None and (batch.ndim != axes or not self._fits(batch.shape)):
            raise ImageError(f"an array of shape {array.shape} does not fit the input {self.shape} of {self.name}")
        if not np.isfinite(batch).all():
            raise ImageError("the array has values that are not finite")
        return [batch[i : i + 1].astype(self._dtype) for i in range(len(batch))], len(batch) == 1

    def _takes_as_batch(self, array: Array) -> bool:
        """Tell whether a function of unknown input means an array as several samples: as one it does not take it."""
        if array.ndim == 4 and plane_of(array.shape[1:]).channel_axis is not None:
            return True  # images
        return array.ndim > 1 and not self._answers(array[None]) and self._answers(array)

    def _answers(self, x: Array) -> bool:
        try:
            self.scores(x)
        # A function may raise anything at what it does not take.
        except Exception:
            return False
        return True

    def _fits(self, shape: tuple[int, ...]) -> bool:
        assert self.shape is not None
        return all(want in (None, have) for want, have in zip(self.shape[1:], shape[1:], strict=True))


def _load(path: str | os.PathLike[str]) -> Array:
    if Path(path).suffix.lower() != ".npy":
        raise ImageError(f"{path}: with no image input the model takes no photos; give a sample as an array, or .npy")
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path} is not a readable .npy file ({error})") from error
    return array


def samples_at_a_time(x: Array) -> int:
    """Return how many samples like (1, ...) go in a run unless the user says."""
    return max(min(BATCH_SIZE, BATCH_BYTES // x.nbytes), 1)


def as_table(answer: Any, count: int) -> npt.NDArray[np.float64]:
    """Return (n, K) from what models of all kinds answer: a table, a column, or a mapping from class to score each.

    Raises:
        TargetError: It is none of these.
    """
    if isinstance(answer, list | tuple) and answer and isinstance(answer[0], Mapping):
        classes = sorted(answer[0])
        return np.array([[row[c] for c in classes] for row in answer], np.float64)
    table = np.asarray(answer)
    if table.dtype.kind not in "fiub" or table.ndim == 0 or len(table) != count:
        raise TargetError(
            f"the model's answer to {count} samples is {table.dtype} of shape {table.shape}: no score for each"
        )
    return table.reshape(count, -1).astype(np.float64)
