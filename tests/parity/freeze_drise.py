"""Freeze what Microsoft's D-RISE says of two small detectors, given onnxsal's own masks.

Run by hand where it is installed (`pip install vision-explanation-methods`); the ordinary tests need it not:

    python tests/parity/freeze_drise.py

Last run with vision-explanation-methods 0.1.1, torch 2.14.1, torchvision 0.29.1. Its `DRISE_saliency` runs as it is;
only `torch.randint`, with which it draws cells and shifts, is replaced while it runs, by onnxsal's numbers. The
detectors are those of tests/support and tests/detectors, wrapped as its `GeneralObjectDetectionModelWrapper`:

- one whose proposals have all class probabilities and an objectness: all of them, before suppression;
- one that gives the ten best boxes with one class each: their class probabilities by its own `expand_class_scores`.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor
from vision_explanation_methods.explanations import common, drise

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "detectors")]

import test_peeling  # noqa: E402  found through the line above
from parity.drise_cases import CELLS, COUNT, FOLDER, GRID, PHOTO, SEED, SHAPE  # noqa: E402
from support.detector import CARD, detector  # noqa: E402

import onnxsal  # noqa: E402
from onnxsal.sampling.designs import Independent  # noqa: E402
from onnxsal.sampling.masks import Draws, rise_space  # noqa: E402

Floats = NDArray[np.float32]
X = PHOTO.transpose(2, 0, 1)[None].astype(np.float32) / 255


class Detector(common.GeneralObjectDetectionModelWrapper):
    """A detector as the library wants it."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        """Open a session."""
        self.session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def predict(self, x: Tensor) -> list[common.DetectionRecord]:
        """Return the detections on one image."""
        (rows,) = self.session.run(None, {"images": x.numpy().astype(np.float32)})[0]
        return [self.record(torch.from_numpy(rows))]


class Proposing(Detector):
    """Gives all proposals: (dx, dy, log width, log height) in cells, objectness, probabilities, as YOLOX does."""

    def record(self, rows: Tensor) -> common.DetectionRecord:
        """Return boxes in pixels."""
        cells = [(i % (64 // s), i // (64 // s), s) for s in (8, 16, 32) for i in range((64 // s) ** 2)]
        at, side = torch.tensor(cells, dtype=torch.float32)[:, :2], torch.tensor([s for *_, s in cells])[:, None]
        centre, half = (rows[:, :2] + at) * side, rows[:, 2:4].exp() * side / 2
        return common.DetectionRecord(torch.cat([centre - half, centre + half], 1), rows[:, 4], rows[:, 5:])


class Final(Detector):
    """Gives boxes, each with its score and class."""

    def record(self, rows: Tensor) -> common.DetectionRecord:
        """Return the library's own reading of such a head."""
        classes = common.expand_class_scores(rows[:, 4], rows[:, 5], 3)
        return common.DetectionRecord(rows[:, :4], torch.ones(len(rows)), classes)


def main() -> None:
    """Write the maps, the masks, and the detector that has suppressed."""
    FOLDER.mkdir(exist_ok=True)
    final = onnx.load_from_string(test_peeling.model(*test_peeling.HEADS["TopK"]).network.source.data)
    onnx.save(final, FOLDER / "final.onnx")
    arrays = {
        "proposing": saliency(Proposing(detector()), onnxsal.load(detector(), card=CARD)),
        "final": saliency(Final(final), onnxsal.load(final, card=CARD)),
        "masks": masks(SHAPE, GRID),
    }
    np.savez_compressed(FOLDER / "drise.npz", **arrays)
    sys.stdout.write(
        f"{ {name: array.shape for name, array in arrays.items()} }, torchvision {torchvision.__version__}\n"
    )


def saliency(theirs: Detector, ours: onnxsal.Model) -> Floats:
    """Return the map (H, W) of each detection that onnxsal finds."""
    (everything,) = theirs.predict(torch.from_numpy(X))
    boxes = torch.tensor([d.box for d in ours.detect(PHOTO)])
    gaps = (everything.bounding_boxes[None] - boxes[:, None]).abs().sum(2)
    # Of equal boxes the surest is meant.
    sure = everything.objectness_scores * everything.class_scores.max(1)[0]
    target = everything.get_by_index((gaps - 1e-3 * sure).argmin(1))
    draws = drawn((64, 64), (CELLS, CELLS))
    with mock.patch.object(torch, "randint", side_effect=numbers(draws)):
        (found,) = drise.DRISE_saliency(theirs, torch.from_numpy(X), [target], len(draws), (CELLS, CELLS))
    return np.stack([one["detection"][0].numpy() for one in found])


def masks(size: tuple[int, int], grid: tuple[int, int]) -> Floats:
    """Return masks (n, H, W) as the library generates them."""
    draws = drawn(size, grid)
    margin = int(max(size[0] / grid[0], size[1] / grid[1]))
    with mock.patch.object(torch, "randint", side_effect=numbers(draws)):
        made = [drise.generate_mask(grid, size, margin, "cpu")[0].numpy() for _ in range(len(draws))]
    return np.stack(made).astype(np.float32)


def drawn(size: tuple[int, int], grid: tuple[int, int]) -> Draws:
    """Return onnxsal's cells and shifts."""
    space = rise_space((0, 0, size[1], size[0]), size, grid, "nearest")
    return Independent(space, SEED, 0.5).draw(0, COUNT)


def numbers(draws: Draws) -> list[Tensor]:
    """Return what `torch.randint` has to say: for each mask its cells, the shift down, the shift right."""
    rows = zip(draws.cells, draws.y, draws.x, strict=True)
    return [t for cells, y, x in rows for t in (torch.from_numpy(cells), torch.tensor([y]), torch.tensor([x]))]


if __name__ == "__main__":
    main()
