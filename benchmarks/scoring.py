"""What real models score under thousands of masks, kept on disk: a run of the product for each photo, design and seed.

A run is the checkpoint file that the product itself writes, so that scoring goes on where it was stopped.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxsal
from onnxsal.explanation.inputs import read_samples
from onnxsal.model.card import read_card
from onnxsal.sampling.masks import MaskSpace, rise_space

CARDS = Path(__file__).parent.parent / "tests" / "zoo" / "cards"
DESIGNS = {"independent": "centred", "balanced": "balanced"}
"""The designs of masks, and an estimator that draws them."""
BATCH_SIZE = 4

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A photo, a model, and what is asked.

    Attributes:
        zoo: Folder of `models/` and `images/`.
        stem: The model's file.
        photo: The photo's.
        method: `rise` of the top class, or `d-rise` of all detections.
        samples: Masks of a run, as the papers have them.
        cells: Rows and columns of the grid, the product's own default.
    """

    zoo: Path
    stem: str
    photo: str
    method: str
    samples: int
    cells: int

    @property
    def path(self) -> Path:
        """The photo's path."""
        return self.zoo / "images" / self.photo

    @cached_property
    def model(self) -> Any:
        """The model, with the card that its source names."""
        card = read_card(CARDS / f"{self.stem}.toml", labels_folder=self.zoo / "models")
        return onnxsal.load(self.zoo / "models" / f"{self.stem}.onnx", card=card)

    @cached_property
    def space(self) -> MaskSpace:
        """The masks' space, as the product makes it."""
        (sample,), _ = read_samples(self.path, self.model.card)
        return rise_space(sample.placement.content, sample.x.shape[2:], (self.cells, self.cells))

    @cached_property
    def targets(self) -> list[str]:
        """What is explained, and the score that the model gives it on the photo, in the order of columns."""
        if self.method == "rise":
            top = self.model.predict(self.path, top=1)[0]
            return [f"{top.label} {top.probability:.2f}"]
        return [f"{d.label} {d.score:.2f}" for d in self.model.detect(self.path)]


CLASSIFIERS = ["burn_dog.jpg", "goldfish.jpg", "bear.jpg", "burn_cat.jpg"]
PHOTOS = {
    "squeezenet1.1_caffe2_fp32": CLASSIFIERS,
    "mobilenetv2-12_dequantised_fp32": CLASSIFIERS,
    "yolox_nano_416": ["dog_bike_truck.jpg", "bus.jpg", "elephant.jpg", "cats.jpg"],
    "ultraface_rfb_320": ["faces.jpg"],
}


def subjects(zoo: Path, stem: str, photos: int) -> list[Subject]:
    """Return the first photos of a model."""
    detector = stem.startswith(("yolox", "ultraface"))
    kind = ("d-rise", 5000, 16) if detector else ("rise", 4000, 7)
    return [Subject(zoo, stem, photo, *kind) for photo in PHOTOS[stem][:photos]]


def score(subject: Subject, seeds: int, cache: Path) -> Iterator[str]:
    """Run what is missing of the first seeds, of both designs; yields a line for each run."""
    for seed in range(seeds):
        for design, estimator in DESIGNS.items():
            file = _file(subject, design, seed, cache)
            if len(_read(file)) >= subject.samples:
                continue
            begin = time.perf_counter()
            target = "all" if subject.method == "d-rise" else None
            settings = {"estimator": estimator, "seed": seed, "samples": subject.samples, "cells": subject.cells}
            loop = onnxsal.LoopOptions(checkpoint=file)
            subject.model.explain(subject.path, subject.method, target, loop=loop, batch_size=BATCH_SIZE, **settings)
            yield f"{file.relative_to(cache)}: {time.perf_counter() - begin:.0f} s"


def runs(subject: Subject, design: str, seeds: int, cache: Path) -> dict[int, Scores]:
    """Return the scores (samples, T) of the first seeds, as far as they have been run to their end."""
    found: dict[int, Scores] = {}
    for seed in range(seeds):
        scores = _read(_file(subject, design, seed, cache))
        if len(scores) < subject.samples:
            break
        found[seed] = scores[: subject.samples]
    return found


def _file(subject: Subject, design: str, seed: int, cache: Path) -> Path:
    folder = cache / subject.stem / Path(subject.photo).stem
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{design}-{seed}.npz"


def _read(file: Path) -> Scores:
    """Return the scores that a checkpoint holds, none if there is no such file."""
    if not file.exists():
        return np.zeros((0, 0), np.float32)
    with np.load(file) as saved:
        scores: Scores = saved["scores"]
    return scores
