"""The pointing game of detections: does the heat lie on the digit that was found?

`python models/digits/pointing.py` explains every detection that is right, on 100 held-out pictures, by each method, and
prints the table of pointing.md. Energy is the share of a heatmap within the true box (Wang et al. 2020,
arXiv:1910.01279, call it the energy-based pointing game); a map that knows nothing has the box's share of the area
there. A hit is a heatmap that is highest within the box (Zhang et al. 2016, arXiv:1608.00507). Needs scikit-learn, of
the extra `test`, for the handwriting.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crowds import Crowd, held_out_crowds

import onnxsal
from onnxsal.detectors.boxes import iou

DETECTOR = Path(__file__).resolve().parent / "detector.onnx"
OVERLAP = 0.5

# What the table shows: a method and its settings.
PLAYERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("d-rise", {}),
    ("d-rise", {"estimator": "centred"}),
    ("d-rise", {"estimator": "paper"}),
    ("odam", {}),
    ("grad-cam", {}),
    ("gradient", {}),
)


@dataclass(frozen=True)
class Round:
    """One explanation, held against the truth.

    Attributes:
        energy: Share of the heat within the digit's box.
        others: Share of the heat within the boxes of the picture's other digits.
        area: Share of the picture within the digit's box.
        hit: The hottest place is within the digit's box.
    """

    energy: float
    others: float
    area: float
    hit: bool


def play(model: Any, crowds: Iterable[Crowd], method: str, **settings: Any) -> Iterator[Round]:
    """Yield a round for each detection that finds a digit and names it rightly."""
    for crowd in crowds:
        found = model.detect(crowd.pixels)
        right = true_boxes([(d.index, d.box) for d in found], crowd)
        if not right:
            continue
        explained = model.explain(crowd.pixels, method, "all", **settings)
        for explanation in explained if isinstance(explained, list) else [explained]:
            if explanation.detection.number in right:
                yield judge(explanation.heatmap, crowd.boxes, right[explanation.detection.number])


def true_boxes(found: Sequence[tuple[int, Sequence[float]]], crowd: Crowd) -> dict[int, int]:
    """Return for each detection that is right, by its number, which of the digits it finds."""
    if not found:
        return {}
    shared = iou(np.array([box for _, box in found], float), np.array(crowd.boxes, float))
    shared *= np.array([[label == true for true in crowd.labels] for label, _ in found])
    return {number: int(row.argmax()) for number, row in enumerate(shared) if row.max() >= OVERLAP}


def judge(heat: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], own: int) -> Round:
    """Return how much of a heatmap (H, W) lies on one of the boxes, and how much on the rest of them."""
    energies = [float(heat[y1:y2, x1:x2].sum() / heat.sum()) for x1, y1, x2, y2 in boxes]
    x1, y1, x2, y2 = boxes[own]
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    others = sum(energies) - energies[own]
    return Round(energies[own], others, (x2 - x1) * (y2 - y1) / heat.size, x1 <= x < x2 and y1 <= y < y2)


def row(name: str, rounds: Sequence[Round]) -> str:
    """Return a line of the table."""
    energy, others, area, hits = (
        float(np.mean([getattr(one, field) for one in rounds])) for field in ("energy", "others", "area", "hit")
    )
    return f"| {name} | {energy:.1%} | {energy / area:.1f} | {others:.1%} | {hits:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100, help="how many pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures")
    parser.add_argument("--samples", type=int, default=250, help="masks of D-RISE")
    arguments = parser.parse_args()
    model, crowds = onnxsal.load(DETECTOR), held_out_crowds(arguments.scenes, arguments.seed)
    there = sum(len(crowd.labels) for crowd in crowds)
    for number, (method, settings) in enumerate(PLAYERS):
        sampled = {"samples": arguments.samples} if method == "d-rise" else {}
        rounds = list(play(model, crowds, method, batch_size=32, **settings, **sampled))
        if number == 0:
            area = np.mean([one.area for one in rounds])
            print(f"{len(crowds)} pictures, {there} digits, {len(rounds)} found; a box is {area:.1%} of its picture\n")
            print("| method | energy in the box | times its area | in other digits' boxes | hits |")
            print("|---|---|---|---|---|")
        said = ", ".join(f"{key}={value}" for key, value in (settings | sampled).items())
        print(row(f"`{method}`" + (f", {said}" if said else ""), rounds), flush=True)


if __name__ == "__main__":
    main()
