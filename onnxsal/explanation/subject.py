"""One image and its targets, as loops of many runs see them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detections
from onnxsal.errors import MethodError
from onnxsal.explanation.aiming import one_box
from onnxsal.explanation.compiled import Compiler, Loop
from onnxsal.explanation.inputs import Sample
from onnxsal.explanation.loop_options import LoopOptions, part_of_file
from onnxsal.explanation.scores import target_scores
from onnxsal.explanation.spaces import photo_space, square_space
from onnxsal.graph.footprint import Footprint
from onnxsal.methods.registry import Method
from onnxsal.model.card import Card
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.feeds import image_feeds, is_filled, mask_feeds
from onnxsal.sampling.masks import Draws, MaskSpace
from onnxsal.sampling.scheduler import Schedule, Status, sweep
from onnxsal.sampling.sizing import Size, choose_size
from onnxsal.sampling.tallies import Checkpoint, Floats
from onnxsal.session import Session, find_room
from onnxsal.targets import TOP, Target

if TYPE_CHECKING:
    from onnxsal.detectors.detections import Kind
    from onnxsal.methods.detector import Reading

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sessions:
    """A model, ready to be run in any of the ways that loops need.

    Attributes:
        compiler: Makes explainers, and the model with masks.
        plain: The model as it is.
        card: Its card.
        head: What was found about its classes.
        image: Name of its image input.
        others: Its other inputs.
        batched: Whether its batch, fixed in the file, has to be made free, and can be.
        single: Whether it takes one sample at a time, whatever its file declares.
        batch_size: Samples in a run, unless a method says otherwise; None takes what is fastest and fits.
    """

    compiler: Compiler
    plain: Session
    card: Card
    head: Mapping[str, Any]
    image: str
    others: Mapping[str, Array]
    batched: bool
    single: bool
    batch_size: int | None

    @property
    def fixed(self) -> int | None:
        """How many samples a run takes, where this is fixed and cannot be changed."""
        count = 1 if self.single else self.plain.fixed_batch
        return None if self.batched else count


@dataclass(frozen=True, eq=False)
class Found:
    """Detections that are targets.

    Attributes:
        detections: They, boxes in pixels of the model's input.
        reading: How the head was read that they come from.
    """

    detections: Detections
    reading: "Reading"


class ModelSubject:
    """One image, its targets, and the sessions that answer about them; see `methods.subject.Subject`."""

    def __init__(
        self,
        model: Sessions,
        sample: Sample,
        targets: Sequence[Target],
        job: Sequence[object],
        options: LoopOptions,
        found: Found | None = None,
        masks: Sequence[Floats | None] | None = None,
    ) -> None:
        """See one sample.

        Args:
            model: The sessions that answer.
            sample: The image.
            targets: What is explained of it; their classes are settled.
            job: What else identifies the loop, for its checkpoint.
            options: How loops are run.
            found: The targets, where they are detections.
            masks: For each target, which pixels of a map of classes count, (1, H, W); None for all.
        """
        self._masks = masks or [None] * len(targets)
        self._found, self._fixed = found, model.fixed
        self._model, self._targets, self._job, self._options = model, targets, list(job), options
        self.x = sample.x
        self.layout = model.card.layout or "NCHW"
        self.size = sample.placement.size
        self.content = sample.placement.content
        self.targets = len(targets)
        self.step = float(model.head.get("image_step") or 1.0)
        self._size: Size | None = None

    # ----- White-box -----

    def attributions(self, base: Method, target: int) -> Callable[[Array], Array]:
        """Return what maps model inputs (n, ...) to their attributions under a white-box method."""
        run = self._explainer(base, target, bare=True)
        return lambda x: run(x, "attribution")

    def target_score(self, base: Method, target: int) -> float:
        """Return a target's score on the image as it is, for targets that no table of classes has."""
        return float(self._explainer(base, target, bare=False)(self.x, "target_score")[0])

    def _explainer(self, base: Method, target: int, *, bare: bool) -> Callable[[Array, str], Array]:
        """Return what maps model inputs (n, ...) to an output of a target's explainer."""
        session, aim = (self._class if self._found is None else self._box)(base, target, bare=bare)
        mask = self._masks[target]

        def run(x: Array, output: str) -> Array:
            feeds: dict[str, Array] = {name: np.full(len(x), index, np.int64) for name, index in aim.items()}
            feeds |= {} if mask is None else {"target_mask": np.repeat(mask, len(x), axis=0)}
            return session.run({self._model.image: x} | feeds | dict(self._model.others), [output])[output]

        return run

    def _class(self, base: Method, target: int, *, bare: bool) -> tuple[Session, dict[str, int]]:
        """Return the explainer of a class or a neuron, and what this is fed to mean that one."""
        aim, batched = self._targets[target], self._model.batched
        bare = bare and TOP not in (aim.index, aim.minus)
        explainer = self._model.compiler.explainer(base, aim.form, batched=batched, loop=self._loop, bare=bare)
        minus = {} if aim.minus is None else {"target_minus": aim.minus}
        return explainer.session, {"target": aim.index} | minus

    def _box(self, base: Method, target: int, *, bare: bool) -> tuple[Session, dict[str, int]]:
        """Return the explainer of a detection, and what this is fed to mean that one."""
        assert self._found is not None
        found, part, batched = self._found, self._targets[target].form.part, self._model.batched
        whole = {self._model.image: self.x} | dict(self._model.others)
        compiler, detections = self._model.compiler, found.detections
        _, explainer, aim = one_box(
            compiler, detections, found.reading, target, base, part, whole, batched=batched, loop=self._loop, bare=bare
        )
        self._take_one(compiler.detector(found.reading, batched=batched).facts)
        return explainer.session, {name: int(index[0]) for name, index in aim.items()}

    # ----- Black-box -----

    def masked_scores(
        self, space: MaskSpace, fill: Array, *, probability: bool, logits: bool = False
    ) -> Callable[[Draws], Floats]:
        """Return what maps n masks to the scores of the image under them, (n, T); of detections, how well found."""
        if self._found is not None:
            return self.found_again(space, fill, "d-rise")
        output = self._class_output()
        filled, batched = is_filled(fill), self._model.batched
        masked = self._model.compiler.masked([output], filled=filled, batched=batched, loop=self._loop)
        answer = self._masked(masked.session, space, fill, output)
        return lambda draws: self._pick(answer(draws), probability, logits)

    def found_again(self, space: MaskSpace, fill: Array, similarity: "Kind") -> Callable[[Draws], Floats]:
        """Return what maps n masks to how well each target, a detection, is found under them, (n, T)."""
        assert self._found is not None
        found, reading = self._found.detections, self._found.reading
        filled, batched = is_filled(fill), self._model.batched
        detector = self._model.compiler.masked_detector(
            reading, similarity, filled=filled, batched=batched, loop=self._loop
        )
        self._take_one(detector.facts)
        own = {"target_boxes": found.boxes, "target_probabilities": found.probabilities}
        return self._masked(detector.session, space, fill, "answer", own)

    def _masked(
        self, session: Session, space: MaskSpace, fill: Array, output: str, own: Mapping[str, Array] | None = None
    ) -> Callable[[Draws], Array]:
        """Return what maps n masks to an output of the masked model."""
        fixed = image_feeds(self.x, space, fill) | dict(own or {})

        def run(draws: Draws) -> Array:
            filled_up = draws.at_least(self._fixed or 1)
            feeds = fixed | mask_feeds(space, filled_up) | self._repeated(len(filled_up))
            return session.run_whole(feeds, [output])[output][: len(draws)]

        return run

    def _take_one(self, facts: Mapping[str, Any]) -> None:
        """Note that the outputs of some heads are those of one photo, whatever the batch."""
        if facts["single"]:
            self._fixed = self._fixed or 1

    def whole_scores(self, *, probability: bool) -> Floats:
        """Return the scores (1, T) of the image as it is; of detections, how well each is found."""
        if self._found is not None:
            space = self.mask_space(1)
            nothing = np.zeros(1, np.int64)
            everything = Draws(np.ones((1, *space.grid), np.float32), nothing, nothing)
            return self.found_again(space, np.zeros_like(self.x, np.float32), "d-rise")(everything)
        output = self._class_output()
        found = self._model.plain.run({self._model.image: self.x} | dict(self._model.others), [output])
        return self._pick(found[output], probability)

    def _class_output(self) -> str:
        if any(t.form.kind == "neuron" for t in self._targets):
            raise MethodError("a neuron is explained by white-box methods only, such as gradient or smoothgrad")
        if self._model.head.get("class_output") is None:
            raise MethodError(f"the model predicts no classes: {self._model.head.get('reason')}")
        return str(self._model.head["class_output"])

    def _repeated(self, count: int) -> dict[str, Array]:
        carries = self._model.plain.carries_samples
        return {k: np.repeat(a, count, axis=0) if a.ndim and carries(k) else a for k, a in self._model.others.items()}

    def _pick(self, output: Array, probability: bool, logits: bool = False) -> Floats:
        """Return the targets' columns of a class output: (n, T)."""
        return target_scores(
            output, self._model.head, self._targets, self._masks, probability=probability, logits=logits
        )

    # ----- What hides -----

    def mask_space(self, cells: int, edges: Edges = "bilinear") -> MaskSpace:
        """Return RISE's masks over the photo; padding around it is never masked."""
        return photo_space(self.content, self.size, cells, edges)

    def window_space(self, window: int | None, stride: int | None) -> MaskSpace:
        """Return masks that hide a square each: by default a seventh of the photo, moved by a quarter of itself."""
        return square_space(self.content, self.size, window, stride)

    def fill(self, name: str | float) -> Floats:
        """Return what stands for "nothing there", float32, of the shape of `x` or broadcast to it."""
        from onnxsal.explanation.fills import make_fill

        return make_fill(name, self.x, self._model.card)

    # ----- The loop -----

    def loop(
        self,
        answer: Callable[[int, int], object],
        tally: Any,
        samples: int,
        batch_size: int | None,
        most: int | None = None,
    ) -> Iterator[Status]:
        """Run a loop, as the user asked for it to be run; unless they say, of `most` samples in a run."""
        assert self._size is not None, "what is run was opened before"
        options, asked = self._options, batch_size or self._model.batch_size
        size = self._fixed or asked or min(self._size.for_samples(samples), most or samples)
        schedule = Schedule(samples, size, self._size.workers, options.tolerance, options.looks)
        return sweep(answer, tally, schedule, options.progress)

    @property
    def _loop(self) -> Loop:
        return Loop(self.x.shape, self._choose_threads)

    def _choose_threads(self, footprint: Footprint) -> int | None:
        """Settle how the loop is run, from what a sample takes."""
        asked = self._fixed or self._model.batch_size
        self._size = choose_size(footprint, find_room(self._model.plain.providers), asked, self._options.workers)
        return self._size.threads

    def checkpoint(self) -> Checkpoint | None:
        """Return where the loop is written down, if anywhere."""
        path, part = self._options.checkpoint, self._options.part
        if path is None:
            return None
        targets = [repr(t) for t in self._targets]
        job = hashlib.sha256(json.dumps([*self._job, self._digests(), targets, part]).encode()).hexdigest()
        return Checkpoint(part_of_file(path, part), job)

    def _digests(self) -> list[str | None]:
        """Return hashes of all arrays that answers depend on; a target's text says neither its mask nor its box."""
        found = None if self._found is None else self._found.detections
        boxes = [] if found is None else [found.boxes, found.probabilities]
        arrays = [self.x, *self._masks, *boxes, *(self._model.others[name] for name in sorted(self._model.others))]
        return [None if a is None else hashlib.sha256(a.tobytes()).hexdigest() for a in arrays]
