"""A loaded model: what it predicts, why, and the explanation as a graph of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnxsal.errors import MethodError, TargetError
from onnxsal.explanation.asked import BATCH_SIZE, Asked, explain_asked, improve_asked
from onnxsal.explanation.explanation import Explanation, Prediction
from onnxsal.explanation.inputs import OtherInputs, Sample, read_other_inputs, read_samples
from onnxsal.explanation.loop_options import LoopOptions, check_count, read_options
from onnxsal.explanation.opened import Opened
from onnxsal.explanation.runs import by_size, feeds_of
from onnxsal.explanation.scores import class_scores, to_predictions
from onnxsal.methods import find_method, make_method
from onnxsal.methods.finding import Finding, find_like, separate
from onnxsal.methods.presets import with_preset
from onnxsal.methods.registry import Method
from onnxsal.methods.subject import SampledMethod
from onnxsal.model.card import ResolvedCard, plain
from onnxsal.model.network import Network
from onnxsal.session import Cache
from onnxsal.targets import Form, Target, parse_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxsal.explanation.inspection import Inspection
    from onnxsal.graph.runtimes import RuntimeName

Array = npt.NDArray[Any]


class Model:
    """An ONNX model that can be asked what it sees, and why. Made by `onnxsal.load`.

    Attributes:
        network: The model as data.
    """

    def __init__(self, network: Network, providers: Sequence[str] | str | None, cache: Cache) -> None:
        """Wrap a network; sessions run on `providers`."""
        self.network = network
        self._opened = Opened(network, providers, cache)
        network.card = self._opened.prepared()

    def __repr__(self) -> str:
        """Return the file and its image input."""
        image = self.card.image
        return f"<onnxsal.Model {self.name!r}, image {image.name!r} {image.dtype} {image.shown_shape}>"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self._opened.name

    @property
    def card(self) -> ResolvedCard:
        """What the file does not say, and where each value came from."""
        return self.network.card

    @property
    def sha256(self) -> str:
        """Hash of the model file, external weights included."""
        return self.network.sha256

    # ----- What it predicts -----

    def predict(
        self, image: Any, top: int = 5, *, inputs: Mapping[str, Any] | None = None, batch_size: int = BATCH_SIZE
    ) -> Any:
        """Return the best classes, best first: a list of `Prediction`, or one such list per image.

        Args:
            image: A path, a Pillow image, a uint8 array (H, W[, C]), an array in the model's own input
                shape; or a list or a batch of these.
            top: How many classes.
            inputs: The inputs beside the image, by name: arrays or .npy files.
            batch_size: Images at a time.

        Raises:
            ImageError: The image cannot be read, or does not fit the model.
            TargetError: The model has no classes.
        """
        check_count("batch_size", batch_size)
        samples, single = read_samples(image, self.card)
        others = self._other_inputs(inputs, samples)
        output = self._opened.class_output
        ranked: dict[int, list[Prediction]] = {}
        for rows in by_size(samples):
            feeds = feeds_of(rows, samples, self.card.image.name, others)
            at_a_time = 1 if len(rows) > 1 and self._opened.one_at_a_time else batch_size
            results = self._opened.plain.run(feeds, [output], batch_size=at_a_time)
            scores, probabilities = class_scores(results[output], self._opened.head)
            for i, s, p in zip(rows, scores, probabilities, strict=True):
                ranked[i] = list(to_predictions(s, p, top, self.card.card))
        return ranked[0] if single else [ranked[i] for i in range(len(samples))]

    # ----- Why -----

    def read_target(self, target: str | int | Target | None) -> list[Target]:
        """Return what a text asks for, in this model's classes: one target, or three for `top:3`.

        Raises:
            TargetError: There is no such class or label, or the text cannot be read.
        """
        return parse_target(target, self._opened.labels, None)

    def explain(
        self,
        image: Any,
        method: str = "grad-cam",
        target: str | int | Target | None = None,
        layer: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        loop: LoopOptions | None = None,
        like: str | None = None,
        mask: Any = None,
        **settings: Any,
    ) -> Any:
        """Return why the model gives the target its score: an `Explanation`, or a list of them.

        A list or a batch of images gives a list, and so does `top:3`; then images come first, targets
        second.

        Args:
            image: As for `predict`. Maps of an array are in the model's own input coordinates.
            method: Name of a method; `onnxsal methods` lists them.
            target: `top` (default), `top:3`, a class index, a label, `prob:281`, `281-285`, or
                `layer:NAME,channel=17[,at=ROW,COLUMN]`. Of a segmentation `class:15`, summed over the pixels predicted
                as 15, or `class:15@x1,y1,x2,y2`, over a region of the photo.
            layer: The layer, for methods that take one: an ONNX value or node name.
            inputs: The inputs beside the image, by name: arrays or .npy files.
            batch_size: Images at a time; None takes 8. Of methods that run the model many times, perturbed images in a
                run; None takes what is fastest and fits into the memory that is free.
            loop: How such methods are run: workers, early end, checkpoint, progress.
            like: The library whose conventions are taken: `captum`, `pair`, `torchray`, `eclique` or `vem`.
            mask: Of a segmentation, over which pixels of the photo scores are summed: weights (H, W), or a box
                (x1, y1, x2, y2).
            **settings: The method's own settings; they win over `like`. Where detections are explained also
                `threshold`, `overlap` and `decoder`, as for `detect`.

        Raises:
            OnnxsalError: The image, method, layer or target does not fit the model; the message says what
                to do.
        """
        targets = self._read_target(target, mask)
        made, finding = self._read_settings(method, layer, settings, like, targets)
        samples, single = read_samples(image, self.card)
        others = self._other_inputs(inputs, samples)
        asked = Asked(
            samples=samples,
            targets=targets,
            others=others,
            name=method,
            method=made,
            finding=finding,
            batch_size=batch_size,
            loop=read_options(loop),
            mask=mask,
        )
        flat = [explanation.credited(like) for explanation in explain_asked(self._opened, asked)]
        return flat[0] if single and len(flat) == 1 else flat

    def compile(
        self,
        method: str = "grad-cam",
        *,
        target: str | None = None,
        layer: str | None = None,
        runtime: "RuntimeName | None" = None,
        like: str | None = None,
        **settings: Any,
    ) -> "ir.Model":
        """Return the explanation as one self-contained ONNX model, for any ONNX Runtime.

        Inputs: the model's own, and `target` (N,) int64, -1 for the top class (for a contrast also `target_minus`; of
        a detector the place of a proposal, beside `target_class`). Outputs: the model's own, `attribution`, and
        `saliency_map` (N, H, W) float32 in [0, 1] at the resolution of the model's input. The card is in its metadata.

        Args:
            method: Name of a method.
            target: Form of the target; a class named in it is an input of the graph all the same.
            layer: The layer, for methods that take one; None takes the default, of a detector that of its coarsest
                level.
            runtime: What will run it; None for what runs this model here. `native` is ONNX Runtime on a CPU, `gpu`
                its other execution providers: CUDA, TensorRT, CoreML and the like. `web` keeps what is added to
                operators that onnxruntime-web has in WebGPU: nothing is scattered, no MaxPool gives Indices. Each
                runs anywhere, but slower; `native` on a GPU takes some masks wrongly where a value is zero.
            like: The library whose conventions are taken, as for `explain`.
            **settings: The method's own settings; they win over `like`.

        Raises:
            OnnxsalError: The method, layer or runtime does not fit the model.
        """
        from onnxsal.explanation.portable import make_portable
        from onnxsal.graph.runtimes import RUNTIMES

        if runtime is not None and runtime not in RUNTIMES:
            raise MethodError(f"no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
        targets = self.read_target(target)
        made, finding = self._read_settings(method, layer, settings, like, targets)
        if isinstance(made, SampledMethod):
            raise MethodError(
                f"{method} runs the model many times and is no single graph: explain with it, or compile another method"
            )
        form, reading = targets[0].form, None
        if finding is not None:
            from onnxsal.explanation.aiming import at_last_level
            from onnxsal.methods.detector import Reading

            form, reading = form if form.kind == "box" else Form("box"), Reading(finding.decoder)
            made = at_last_level(self._opened.compiler, reading, made)
        graph = self._opened.compiler.build(made, form, reading, runtime=runtime)
        graph.metadata_props.update({} if like is None else {"onnxsal.like": like})
        return make_portable(graph, self.card.card)

    def inspect(self) -> "Inspection":
        """Return what was found in the model, and for each method whether it works on it."""
        from onnxsal.explanation.inspection import inspect_model

        return inspect_model(self, self._opened.compiler)

    def detect(
        self,
        image: Any,
        *,
        threshold: float = 0.3,
        overlap: float | None = None,
        decoder: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what a detector finds, the surest first: a list of `Detection`, or one such list per image.

        Args:
            image: As for `predict`.
            threshold: Score from which a detection counts.
            overlap: Intersection over union above which the surer of two boxes of a class removes the other; None is
                0.5, and nothing more of heads that have suppressed already, or that find each object once.
            decoder: Name of the decoder of the head; None recognises it.
            inputs: The inputs beside the image, by name: arrays or .npy files.

        Raises:
            DetectorError: The head is of no known family, or not of the one that is named.
        """
        from onnxsal.explanation.detecting import detect, on_photo

        samples, single = read_samples(image, self.card)
        others = self._other_inputs(inputs, samples)
        found = []
        for i, sample in enumerate(samples):
            sessions = self._opened.sessions(others.at([i]), None)
            detections, _ = detect(sessions, sample, Finding(threshold, overlap, decoder))
            found.append(on_photo(detections, sample, sessions))
        return found[0] if single else found

    def improve(
        self,
        image: Any,
        method: str = "rise",
        target: str | int | Target | None = None,
        layer: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        loop: LoopOptions | None = None,
        like: str | None = None,
        mask: Any = None,
        **settings: Any,
    ) -> Iterator[list[Explanation]]:
        """Return an iterator over the explanations of one image by a method of many runs, as they get better.

        Each is a list with one explanation per target; the last is what `explain` returns. For notebooks:
        `for (e,) in model.improve("dog.jpg", "rise"): display(e, clear=True)`.

        Args and errors are those of `explain`; what is asked for is checked here, before the first is taken.
        """
        targets = self._read_target(target, mask)
        made, finding = self._read_settings(method, layer, settings, like, targets)
        if not isinstance(made, SampledMethod):
            raise MethodError(f"{method} is one run and has nothing to improve: use explain")
        samples, _ = read_samples(image, self.card)
        if len(samples) != 1:
            raise MethodError(f"improve takes one image, not {len(samples)}: use explain")
        asked = Asked(
            samples=samples,
            targets=targets,
            others=self._other_inputs(inputs, samples),
            name=method,
            method=made,
            finding=finding,
            batch_size=batch_size,
            loop=replace(read_options(loop), partial=True),
            mask=mask,
        )
        better = improve_asked(self._opened, asked)
        return ([explanation.credited(like) for explanation in found] for found in better)

    # ----- The stages -----

    def _method(self, name: str, layer: str | None, settings: Mapping[str, Any], like: str | None) -> Method:
        if layer is not None:
            if "layer" not in find_method(name).settings:
                raise MethodError(f"{name} takes no layer; those that do: {', '.join(_methods_with_layer())}")
            settings = {**settings, "layer": layer}
        return make_method(name, with_preset(like, find_method(name).name, settings))

    def _read_target(self, target: str | int | Target | None, mask: Any) -> list[Target]:
        """Return the targets, over the pixels of a mask if there is one."""
        targets = self.read_target(target)
        if mask is None:
            return targets
        if any(t.form.kind not in ("logit", "probability", "contrast") or t.region for t in targets):
            raise TargetError(f"a mask beside {targets[0].text!r}: it says which pixels of a class count, and no more")
        return [replace(t, form=replace(t.form, pixels="mask")) for t in targets]

    def _read_settings(
        self,
        name: str,
        layer: str | None,
        settings: Mapping[str, Any],
        like: str | None,
        targets: Sequence[Target],
    ) -> tuple[Method, Finding | None]:
        """Return the method, and how detections are found, if targets are detections.

        Raises:
            MethodError: A setting is neither the method's nor one of detections.
        """
        own, found = separate(name, settings)
        made = self._method(name, layer, own, like)
        if getattr(made, "asks", "") == "detections" or self.means_boxes(targets, found.get("decoder")):
            return made, find_like(made, found)
        if found:
            some = ", ".join(found)
            raise MethodError(f"{some}: a setting of detections, and {targets[0].text!r} means none in this model")
        return made, None

    def _other_inputs(self, given: Mapping[str, Any] | None, samples: Sequence[Sample]) -> OtherInputs:
        return read_other_inputs(given, self.card, self.network.signature.inputs, len(samples))

    def means_boxes(self, targets: Sequence[Target], decoder: str | None = None) -> bool:
        """Whether targets are detections: they say so, or the model has a detector's head, or is said to have one."""
        if any(t.form.kind != "logit" for t in targets):
            return targets[0].form.kind == "box"
        return decoder not in (None, "none") or bool(self._opened.detector_head)


def _methods_with_layer() -> list[str]:
    from onnxsal.methods import methods

    return [plain(name) for name, info in methods().items() if "layer" in info.settings]
