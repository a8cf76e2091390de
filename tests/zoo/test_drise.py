"""D-RISE on the shared detectors: it finds the boxes that were verified, and its energy is on them.

`ONNXSAL_ZOO=folder python tests/zoo/test_drise.py [samples]` prints the table: for each verified box the overlap with
the box found, and how much more of the map lies within it than its share of the photo. `map` is the map as it is, in
which a pixel that does not matter has the mean similarity; `heat` is what lies above that, which is what is drawn.
"""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from zoo.shared import DETECTIONS, Box, card_of, model_path, needs_zoo, photo_path

import onnxsal
from onnxsal.detectors.boxes import iou
from onnxsal.image import open_image, preprocess

YOLOV8N = ("yolov8n_640_dynamic_int8", "dog_bike_truck.jpg")
# It calls the truck a car too, a little apart.
VERIFIED = DETECTIONS | {YOLOV8N: [*DETECTIONS[YOLOV8N], ("car", (471, 77, 692, 172))]}


@dataclass(frozen=True)
class Row:
    """What was found of one verified box.

    Attributes:
        label: Its class.
        score: Of the detection.
        overlap: Intersection over union of the two.
        area: The box's share of the photo.
        whole: Energy of the map within it, over that share.
        heat: Of what lies above the mean similarity.
    """

    label: str
    score: float
    overlap: float
    area: float
    whole: float
    heat: float


def rows_of(stem: str, photo: str, samples: int) -> list[Row]:
    """Explain all detections of a photo in one sweep, and return how each verified box comes off."""
    card = card_of(stem)
    model = onnxsal.load(model_path(stem), card=card)
    placement = preprocess(open_image(photo_path(photo)), card).placement
    explained = model.explain(photo_path(photo), "d-rise", "all", samples=samples)
    explained = explained if isinstance(explained, list) else [explained]
    rows = []
    for label, box in VERIFIED[stem, photo]:
        alike = [e for e in explained if e.detection.label == label]
        overlaps = iou(np.array([box], float), np.array([e.detection.box for e in alike]))[0]
        best = alike[int(overlaps.argmax())]
        area = within(np.ones_like(best.heatmap), box)
        whole = within(placement.to_photo(best.attribution), box) / area
        heat = within(best.heatmap, box) / area
        rows.append(Row(label, best.detection.score, float(overlaps.max()), area, whole, heat))
    return rows


def within(heat: np.ndarray, box: Box) -> float:
    """Return the part of a map that lies within a box."""
    x1, y1, x2, y2 = box
    return float(heat[y1:y2, x1:x2].sum(dtype=float) / heat.sum(dtype=float))


# Few masks, so that the three detectors take seconds; a box of two thirds of the photo has 1.5 times its share at most.
@needs_zoo
@pytest.mark.slow
@pytest.mark.parametrize(("stem", "photo"), VERIFIED)
def test_drise_finds_the_verified_boxes_and_puts_its_energy_on_them(stem, photo):
    # The largest of them takes a third of a second for each mask.
    for row in rows_of(stem, photo, 100 if stem.startswith("yolov8n") else 300):
        assert row.overlap > 0.9, row
        assert row.whole > 0.99, row
        assert row.heat > 1 + 0.25 * (1 - row.area), row


def table(samples: int) -> None:
    """Print how every verified box comes off."""
    print("| model | photo | class | score | IoU | area | map / area | heat / area |")
    print("|---|---|---|---|---|---|---|---|")
    for stem, photo in VERIFIED:
        for r in rows_of(stem, photo, samples):
            told = f"{r.score:.2f} | {r.overlap:.2f} | {r.area:.3f} | {r.whole:.2f} | {r.heat:.2f}"
            print(f"| {stem} | {photo} | {r.label} | {told} |", flush=True)


if __name__ == "__main__":
    table(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
