"""Count the masks that each estimator of RISE and D-RISE needs for a map as good as the papers' own, on real models.

    ONNXSAL_ZOO=folder python benchmarks/quality.py --seeds 13 --write   # a hundred thousand masks for each photo
    ONNXSAL_ZOO=folder python benchmarks/quality.py --seeds 1 --photos 1 # a first impression

What models score under masks is kept in the folder that --cache names: scoring goes on where it was stopped, and
--seeds 0 reports on what is there. A mask takes 4 to 10 ms on two cores.

The error of a map is judged against the maps of all other runs of the photo, in two halves B and C that share no mask:
the mean of (map - B)(map - C) over pixels is in expectation the mean squared error, without the references' own noise.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scoring
from scoring import DESIGNS, PHOTOS, Scores, Subject

from onnxsal.methods.masking import Estimator, make_design, maps_of
from onnxsal.sampling.controls import Regression
from onnxsal.sampling.designs import Balanced

HERE = Path(__file__).parent
ESTIMATORS: dict[Estimator, str] = {
    "paper": "independent",
    "centred": "independent",
    "regression": "independent",
    "balanced": "balanced",
    "balanced-regression": "balanced",
}
DEFAULT: Estimator = "balanced-regression"
BEST: dict[str, Estimator] = {"independent": "regression", "balanced": "balanced-regression"}
KEEP = 0.5
PARTS = (1, 2, 4, 8, 16)
"""A run is judged as a whole, and in so many parts."""
MOST_PARTS = 8
MOST_SEEDS = 1000

Run = tuple[str, int]
"""Its design and seed."""
Maps = np.ndarray[Any, np.dtype[np.float64]]
"""(T, H, W)."""
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Judged:
    """The errors of one target's maps.

    Attributes:
        subject: Photo and model.
        name: The target.
        masks: How many were scored in all.
        runs: How many of each design.
        scores: (n,), under independent masks.
        errors: Mean squared errors as they are and with the maps' means taken off, by estimator and number of masks.
        said: The mean squared standard error that came with the map, likewise.
    """

    subject: Subject
    name: str
    masks: int
    runs: int
    scores: Scores
    errors: dict[tuple[Estimator, int], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    said: dict[tuple[Estimator, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def error(self, estimator: Estimator, count: int, *, level: bool) -> float:
        """Return the mean squared error of maps of so many masks.

        Args:
            estimator: What made them.
            count: Masks.
            level: As it is; otherwise a constant that is added to a map does not count.
        """
        return float(np.mean([pair[0 if level else 1] for pair in self.errors[estimator, count]]))


def main() -> None:
    """Run what the command line asks for."""
    options = read_options()
    subjects = [s for stem in options.models for s in scoring.subjects(options.zoo, stem, options.photos)]
    for subject in subjects:
        for line in scoring.score(subject, options.seeds, options.cache):
            print(line, file=sys.stderr, flush=True)
    judged = [found for subject in subjects for found in judge(subject, options.cache)]
    lines = []
    for line in report(judged, options.models):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        (HERE / "quality.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PHOTOS, default=list(PHOTOS))
    parser.add_argument("--photos", type=int, default=2, help="Of each model, where there are so many.")
    parser.add_argument("--seeds", type=int, default=13, help="Runs of each design, 4000 masks or 5000.")
    parser.add_argument("--write", action="store_true", help="Write the tables to quality.md.")
    parser.add_argument("--zoo", type=Path, default=os.environ.get("ONNXSAL_ZOO"), help="Of models/ and images/.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxsal-quality")
    options = parser.parse_args()
    if options.zoo is None:
        parser.error("name the folder of models/ and images/: --zoo FOLDER, or ONNXSAL_ZOO")
    return options


# ----- Errors -----


def judge(subject: Subject, cache: Path) -> list[Judged]:
    """Return the errors of each target of a photo, from all runs that there are."""
    runs = {(d, seed): s for d in DESIGNS for seed, s in scoring.runs(subject, d, MOST_SEEDS, cache).items()}
    counts = [sum(design == kind for design, _ in runs) for kind in DESIGNS]
    if not min(counts):
        return []
    halves = {run: references(subject, run, scores) for run, scores in runs.items()}
    independent = np.concatenate([s for (design, _), s in runs.items() if design == "independent"])
    masks = len(runs) * subject.samples
    judged = [
        Judged(subject, name, masks, min(counts), column)
        for name, column in zip(subject.targets, independent.T, strict=True)
    ]
    for run, scores in runs.items():
        others = [pair for other, pair in halves.items() if other != run]
        reference = np.mean(others, axis=0)
        for estimator in (name for name, design in ESTIMATORS.items() if design == run[0]):
            for start, stop in parts(subject, run):
                add(judged, subject, run, scores, estimator, (start, stop), reference)
    return judged


def add(
    judged: list[Judged],
    subject: Subject,
    run: Run,
    scores: Scores,
    estimator: Estimator,
    part: tuple[int, int],
    reference: Maps,
) -> None:
    """Add the errors of the maps that an estimator makes of a part of a run; `reference` is (2, T, H, W)."""
    inside = subject.space.outside == 0
    start, stop = part
    found = explain(subject, run, scores, estimator, part)
    for target, sampled, pair in zip(judged, found, np.swapaxes(reference, 0, 1), strict=True):
        b, c = (sampled.attribution[inside] - half[inside] for half in pair)
        level, shape = np.mean(b * c), np.mean((b - b.mean()) * (c - c.mean()))
        target.errors[estimator, stop - start].append((float(level), float(shape)))
        target.said[estimator, stop - start].append(float(np.mean(sampled.error[inside].astype(np.float64) ** 2)))


def explain(subject: Subject, run: Run, scores: Scores, estimator: Estimator, part: tuple[int, int]) -> Any:
    """Return what the product makes of a part of a run."""
    start, stop = part
    draws = make_design(subject.space, ESTIMATORS_DRAWING[run[0]], KEEP, run[1]).draw(start, stop)
    return maps_of(subject.space, draws, scores[start:stop], KEEP, estimator)


ESTIMATORS_DRAWING: dict[str, Estimator] = {"independent": "paper", "balanced": "balanced"}


def references(subject: Subject, run: Run, scores: Scores) -> Maps:
    """Return the maps (2, T, H, W) of both halves of a run, divided between blocks of balanced masks."""
    block = block_of(subject)
    middle = max(round(subject.samples / 2 / block), 1) * block
    halves = [(0, middle), (middle, subject.samples)]
    found = [explain(subject, run, scores, BEST[run[0]], half) for half in halves]
    return np.array([[sampled.attribution for sampled in half] for half in found], np.float64)


def block_of(subject: Subject) -> int:
    """Return after how many masks balanced ones are balanced."""
    return Balanced(subject.space, 0).block


def parts(subject: Subject, run: Run) -> Iterator[tuple[int, int]]:
    """Yield the parts of a run that are judged; where masks are balanced, each begins a block."""
    block = block_of(subject) if run[0] == "balanced" else 1
    for number in PARTS:
        count = subject.samples // number
        step = -(-count // block) * block
        starts = range(0, subject.samples - count + 1, step)[:MOST_PARTS]
        yield from ((start, start + count) for start in starts)


# ----- The report -----


def report(judged: list[Judged], models: list[str]) -> Iterator[str]:
    """Yield the report, line by line."""
    yield from heading()
    yield from ["", "## A constant added to a map does not count", "", *factor_table(judged, models, level=False)]
    yield from ["", "## It does count", "", CONSTANT, "", *factor_table(judged, models, level=True)]
    by_model = {stem: [j for j in judged if j.subject.stem == stem] for stem in models}
    ratios = [f"{stem} {said_over_true(found):.2f}" for stem, found in by_model.items() if found]
    yield from ["", f"Standard errors that come with the default's maps, over its true errors: {', '.join(ratios)}."]
    yield from ["", "## Targets", "", *target_table(judged)]


CONSTANT = (
    "The constant says how large scores are in the mean, not where they come from. There is less to gain for it: what "
    "scores owe to an even number of cells together cancels from the rest of the map under complements, but not from "
    "it."
)


def heading() -> Iterator[str]:
    """Yield what was measured."""
    yield "# Masks for the same quality"
    yield ""
    yield f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *shown_arguments()])}`, {time.strftime('%Y-%m-%d')}"
    yield ""
    yield (
        "How many times fewer masks an estimator needs to reach the mean squared error that `paper`, the plain mean of "
        "score times mask (RISE: 4000 masks of 7 x 7 cells; D-RISE: 5000 of 16 x 16), or `centred` has; `keep` is 0.5. "
        "Errors are relative to `paper`'s for each target, then averaged over targets; they are known after a run and "
        "after halves, quarters, eighths and sixteenths of it, and interpolated. The reference of a map is made of all "
        "other runs of the photo, in two halves B and C without a mask in common: the mean of (map - B)(map - C) is "
        "free of their own noise in expectation, however few masks they are of. "
        f"The default is `{DEFAULT}`."
    )


def shown_arguments() -> list[str]:
    """Return the command line's arguments, without folders of this machine."""
    return [a for a in sys.argv[1:] if not a.startswith(("--cache", "--zoo")) and os.sep not in a]


def factor_table(judged: list[Judged], models: list[str], *, level: bool) -> Iterator[str]:
    """Yield how many times fewer masks each estimator needs, by model."""
    names = list(ESTIMATORS)
    needs = [f"masks it needs for the error of `{base}`" for base in ("paper", "centred")]
    yield row_of("model", *(f"`{name}`" for name in names), f"`{DEFAULT}` over `centred`", *needs)
    yield "|" + "---|" * (len(names) + 4)
    for stem in models:
        found = [j for j in judged if j.subject.stem == stem]
        if not found:
            continue
        over_paper = [factor(found, name, "paper", level=level) for name in names]
        over_centred = factor(found, DEFAULT, "centred", level=level)
        needed = [f"{found[0].subject.samples / times:.0f}" for times in (over_paper[-1], over_centred)]
        yield row_of(stem, *(f"{times:.1f}" for times in [*over_paper, over_centred]), *needed)


def factor(judged: list[Judged], estimator: Estimator, base: Estimator, *, level: bool) -> float:
    """Return how many times fewer masks an estimator needs for the error that `base` has after a whole run."""
    units = [after_run(j, "paper", level=level) for j in judged]
    if ESTIMATORS[estimator] == "independent" and estimator != "regression":
        own, aim = (mean_ratio([after_run(j, name, level=level) for j in judged], units) for name in (estimator, base))
        return aim / own
    aim = mean_ratio([after_run(j, base, level=level) for j in judged], units)
    counts = sorted({n for name, n in judged[0].errors if name == estimator})
    curve = [mean_ratio([j.error(estimator, n, level=level) for j in judged], units) for n in counts]
    return counts[-1] / masks_needed(np.array(counts), np.array(curve), aim)


def mean_ratio(errors: list[float], units: list[float]) -> float:
    """Return the mean of errors relative to their units."""
    return float(np.mean(np.divide(errors, units)))


def after_run(judged: Judged, estimator: Estimator, *, level: bool) -> float:
    """Return the error after a whole run of a mean over independent masks.

    It falls exactly as one over their number, so that all parts of the run tell of it.
    """
    counts = [n for (name, n), errors in judged.errors.items() if name == estimator for _ in errors]
    errors = [
        pair[0 if level else 1] for (name, _), pairs in judged.errors.items() if name == estimator for pair in pairs
    ]
    return float(np.mean(np.multiply(counts, errors)) / max(counts))


def masks_needed(counts: Floats, curve: Floats, aim: float) -> float:
    """Return the number of masks at which the curve of errors comes down to an aim."""
    fallen = np.maximum.accumulate(-np.log(np.maximum(curve, 1e-12)))
    wanted = -np.log(aim)
    # Before the first number of masks and beyond the last, as one over their number.
    beyond = min(wanted - fallen[0], 0) + max(wanted - fallen[-1], 0)
    return float(np.exp(np.interp(wanted, fallen, np.log(counts)) + beyond))


def target_table(judged: list[Judged]) -> Iterator[str]:
    """Yield what was explained, and what the gain hangs on."""
    yield (
        "The size of scores counts against `paper`, their spread against `centred`, and what of the spread is no sum "
        "over parts of the photo against `regression`."
    )
    yield ""
    yield row_of(
        "model", "photo", "target", "runs of each design", "masks", "mean score", "deviation", "explained by parts",
        f"`{DEFAULT}` over `paper`",
    )  # fmt: skip
    yield "|" + "---|" * 9
    for j in judged:
        gain = factor([j], DEFAULT, "paper", level=False)
        yield row_of(
            j.subject.stem, j.subject.photo, j.name, str(j.runs), str(j.masks), f"{j.scores.mean():.2f}",
            f"{j.scores.std():.2f}", f"{explained(j):.2f}", f"{gain:.1f}",
        )  # fmt: skip


def said_over_true(judged: list[Judged]) -> float:
    """Return the standard error that comes with the default's maps over their true error, roots of mean squares."""
    said, true = 0.0, 0.0
    for j in judged:
        unit = after_run(j, "paper", level=True)
        for count in (n for name, n in j.said if name == DEFAULT):
            said += count * float(np.mean(j.said[DEFAULT, count])) / unit
            true += count * j.error(DEFAULT, count, level=True) / unit
    return float(np.sqrt(said / true))


def explained(judged: Judged) -> float:
    """Return the part of the scores' variance that the regression foresees."""
    subject, first = judged.subject, judged.scores[: judged.subject.samples].astype(np.float64)
    draws = make_design(subject.space, "paper", KEEP, 0).draw(0, subject.samples)
    return 1 - float(Regression(subject.space, draws, KEEP)(first).residuals.var() / first.var())


def row_of(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
