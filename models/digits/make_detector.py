# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "onnx>=1.19", "onnxscript>=0.7", "onnxruntime>=1.20",
#   "numpy>=2.0", "scipy>=1.13", "pillow>=11.0", "scikit-learn>=1.5",
# ]
# ///
"""Make the digits detector and its card: `uv run models/digits/make_detector.py`.

Trains on the CPU, exports ONNX, checks the file itself on held-out pictures and prints the figures
of the README. With a mean average precision below 85 % (at an overlap of 0.5) it fails and leaves no file.
"""

import argparse
import io
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from crowds import SIZE, Crowd, held_out_crowds, make_crowd
from detections import OVERLAPS, Found, matches, mean_average_precision, read_rows
from make import HERE, Block, preprocess, recolour, rename
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
SAMPLES = 2
STRIDES = (8, 16, 32)
# A digit belongs to the level whose range holds its longer side, in pixels.
LONGEST = (36, 48, SIZE)

BATCH, EPOCHS = 32, 20
# Each picture is shown in so many colourings.
COLOURINGS = 3
# Weights of the boxes in the loss, as for YOLOX, and of the classes, which are harder to learn than the boxes.
BOXES, NAMES = 5.0, 2.0

# Pixels become (x / 255 - 0.5) / 0.25, as for the classifier.
CARD = {
    "task": "detection",
    "input": "image",
    "output": "detections",
    "layout": "NCHW",
    "size": [SIZE, SIZE],
    "resize": "letterbox",
    "interpolation": "bilinear",
    "pad_value": 127.5,
    "channels": "RGB",
    "scale": 1 / 255,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "labels": [f"digit {digit}" for digit in range(CLASSES)],
}


class Strokes(nn.Module):
    """The classifier's first four blocks, with its weights: (N, 48, H / 8, W / 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = Block(3, 16)
        self.pool1 = nn.MaxPool2d(2)
        self.block2 = Block(16, 32)
        self.pool2 = nn.MaxPool2d(2)
        self.block3 = Block(32, 48)
        self.block4 = Block(48, 48)
        self.pool3 = nn.MaxPool2d(2)
        self.load_state_dict(weights_of(HERE / "digits.onnx"), strict=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        return self.pool3(self.block4(self.block3(self.pool2(self.block2(self.pool1(self.block1(image)))))))


def weights_of(path: Path) -> dict[str, Tensor]:
    """Return the weights in an ONNX file by name."""
    initializers = onnx.load(path).graph.initializer
    return {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in initializers}


class Step(nn.Module):
    """Conv, BatchNorm if wanted, ReLU: of 3x3 within each channel, or 1x1 across them."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, norm: bool = True) -> None:
        super().__init__()
        groups = inputs if kernel > 1 else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))


def separable(channels: int, stride: int = 1, norm: bool = True) -> nn.Sequential:
    """3x3 within each channel, then 1x1 across them."""
    return nn.Sequential(Step(channels, channels, 3, stride, norm), Step(channels, channels, 1, 1, norm))


class Head(nn.Module):
    """Box, objectness and classes of each cell, parted as YOLOX parts them; the same for all levels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # What levels share cannot be normalised by what is usual in one of them.
        self.stem, self.look, self.fit = (separable(width, norm=False) for _ in range(3))
        self.classes = nn.Conv2d(width, CLASSES, 1)
        self.box = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)
        for rare in (self.classes, self.objectness):
            nn.init.constant_(rare.bias, -4.0)  # few cells have a digit: begin there

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        looked, fitted = self.look(x), self.fit(x)
        return torch.cat([self.box(fitted), self.objectness(fitted), self.classes(looked)], 1)


class Detector(nn.Module):
    """The classifier's strokes down to stride 32, a pyramid back up to stride 8, a head at each of its three levels."""

    def __init__(self, channels: int = 48, width: int = 32) -> None:
        super().__init__()
        self.strokes = Strokes()
        self.stage8 = nn.Sequential(*(separable(channels) for _ in range(3)))
        self.stage16 = nn.Sequential(separable(channels, 2), separable(channels))
        self.stage32 = separable(channels, 2)
        self.across = nn.ModuleList(Step(channels, width, 1) for _ in STRIDES)
        self.merge = nn.ModuleList(separable(width) for _ in STRIDES[:2])
        self.up = nn.ModuleList(nn.Upsample(scale_factor=2, mode="nearest") for _ in STRIDES[:2])
        self.head = Head(width)
        corners, strides = grid()
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def pyramid(self, strokes: Tensor) -> list[Tensor]:
        fine = self.stage8(strokes)
        middle = self.stage16(fine)
        coarse = self.across[2](self.stage32(middle))
        middle = self.merge[1](self.across[1](middle) + self.up[1](coarse))
        return [self.merge[0](self.across[0](fine) + self.up[0](middle)), middle, coarse]

    def rows(self, strokes: Tensor) -> Tensor:
        """Return (N, P, 5 + K): offsets and logarithms of sizes in units of the stride, then logits."""
        levels = zip(self.pyramid(strokes), STRIDES, strict=True)
        parts = [self.head(x).reshape(-1, 5 + CLASSES, (SIZE // stride) ** 2) for x, stride in levels]
        return torch.cat(parts, 2).transpose(1, 2)

    def boxes(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return centres and sizes in pixels, (..., P, 2) each."""
        return (rows[..., :2] + self.corners) * self.strides, rows[..., 2:4].exp() * self.strides

    def forward(self, image: Tensor) -> Tensor:
        rows = self.rows(self.strokes(image))
        return torch.cat([*self.boxes(rows), rows[..., 4:].sigmoid()], 2)


def grid() -> tuple[Tensor, Tensor]:
    """Return the cells' corners (P, 2), in units of their stride, and their strides (P, 1)."""
    corners, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: SIZE // stride, : SIZE // stride]
        corners.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), stride))
    return torch.from_numpy(np.concatenate(corners)).float(), torch.from_numpy(np.concatenate(strides)).float()


# Training


def pictures(crowds: list[Crowd]) -> Tensor:
    """Return uint8 (N, C, H, W)."""
    return torch.from_numpy(np.stack([crowd.pixels for crowd in crowds]).transpose(0, 3, 1, 2).copy())


def truths(crowds: list[Crowd]) -> tuple[Tensor, Tensor]:
    """Return for each cell the class it should find, (N, P), -1 where none, and its box, (N, P, 4)."""
    corners, strides = grid()
    centres = (corners + 0.5) * strides
    classes = torch.full((len(crowds), len(centres)), -1)
    boxes = torch.zeros(len(crowds), len(centres), 4)
    for n, crowd in enumerate(crowds):
        for label, box in zip(crowd.labels, crowd.boxes, strict=True):
            mine = responsible(torch.tensor(box).float(), centres, strides[:, 0])
            classes[n, mine], boxes[n, mine] = label, torch.tensor(box).float()
    return classes, boxes


def responsible(box: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Tell which cells should find a box: of its level, the one it is centred in, and its neighbours within the box."""
    side = float((box[2:] - box[:2]).max())
    stride = next(stride for stride, longest in zip(STRIDES, LONGEST, strict=True) if side <= longest)
    away = (centres - (box[:2] + box[2:]) / 2).abs().amax(1)
    within = ((centres > box[:2]) & (centres < box[2:])).all(1)
    return (strides == stride) & ((away <= stride / 2) | (within & (away <= stride)))


def train(network: Detector, count: int, workers: int) -> None:
    """Train on `count` pictures; prints losses and the precision on validation pictures as it goes."""
    with ProcessPoolExecutor(workers) as pool:
        crowds = list(pool.map(partial(make_crowd, "train", 0), range(count), chunksize=64))
        validation = list(pool.map(partial(make_crowd, "validation", 0), range(200), chunksize=64))
    x, (classes, boxes) = strokes_of(network, pictures(crowds)), truths(crowds)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], weight_decay=0.05)
    steps = count // BATCH * EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        network.train()
        for rows in torch.randperm(count)[: count // BATCH * BATCH].split(BATCH):
            said = loss(network, network.rows(x[epoch % COLOURINGS][rows]), classes[rows], boxes[rows])
            optimizer.zero_grad()
            said.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {said.item():.2f}, validation {summary(network, validation)}", flush=True)


def strokes_of(network: Detector, pixels: Tensor) -> list[Tensor]:
    """Return what the part that is not trained makes of pictures, once for each of several colourings."""
    network.eval()
    parts = pixels.split(50)
    return [torch.cat([network.strokes(preprocess(recolour(part))) for part in parts]) for _ in range(COLOURINGS)]


def loss(network: Detector, rows: Tensor, classes: Tensor, boxes: Tensor) -> Tensor:
    """Return YOLOX's loss: objectness of all cells; box and classes of those that should find a digit.

    Source: Ge et al. 2021, arXiv:2107.08430, and its code: classes are to be as sure as the box is right.
    """
    mine = classes >= 0
    objectness = functional.binary_cross_entropy_with_logits(rows[..., 4], mine.float(), reduction="sum")
    centres, sizes = (part[mine] for part in network.boxes(rows))
    overlap = overlaps(torch.cat([centres - sizes / 2, centres + sizes / 2], 1), boxes[mine])
    wanted = functional.one_hot(classes[mine], CLASSES) * overlap.detach().clamp(min=0)[:, None]
    classified = functional.binary_cross_entropy_with_logits(rows[mine][:, 5:], wanted, reduction="sum")
    return (objectness + NAMES * classified + BOXES * (1 - overlap).sum()) / mine.sum()


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised intersection over union of boxes (D, 4) with others, one by one: (D,), in [-1, 1].

    Source: Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return shared / union - (hull - union) / hull


def summary(network: Detector, crowds: list[Crowd]) -> str:
    """Return how well the network does on pictures, in words."""
    network.eval()
    with torch.no_grad():
        answers = torch.cat([network(preprocess(part)) for part in pictures(crowds).split(50)]).numpy()
    return f"AP50 {precision([read_rows(rows, 0.01) for rows in answers], crowds, 0.5):.1%}"


def precision(found: list[Found], crowds: list[Crowd], overlap: float) -> float:
    return mean_average_precision(found, [truth(crowd) for crowd in crowds], overlap)


def truth(crowd: Crowd) -> tuple[np.ndarray, np.ndarray]:
    return np.array(crowd.labels), np.array(crowd.boxes, float)


# Export


def export(network: Detector) -> onnx.ModelProto:
    """Return the ONNX model: dynamic batch, embedded weights, BatchNorm folded as in deployed detectors, card."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter is deprecated; it keeps Conv and Relu one by one
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, SIZE, SIZE),),
            file,
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            output_names=["detections"],
            dynamic_axes={"image": {0: "N"}, "detections": {0: "N"}},
        )
    model = onnx.load_from_string(file.getvalue())
    rename(model.graph)
    model.graph.name = "digits_detector"
    onnx.helper.set_model_props(model, {f"onnxsal.{field}": json.dumps(value) for field, value in CARD.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


# Checks, on the file that is going to be written


def answers(model: onnx.ModelProto, crowds: list[Crowd]) -> np.ndarray:
    """Run the ONNX model on pictures: (len(crowds), P, 5 + K)."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = preprocess(pictures(crowds)).numpy()
    parts = [session.run(None, {"image": x[at : at + 100]})[0] for at in range(0, len(x), 100)]
    return np.concatenate(parts)


def check(network: Detector, model: onnx.ModelProto) -> None:
    """Print the README's figures; exit if the detector is not good enough to be kept."""
    crowds = held_out_crowds(1000)
    rows = answers(model, crowds)
    with torch.no_grad():
        difference = np.abs(network(preprocess(pictures(crowds[:100]))).numpy() - rows[:100]).max()
    print(f"ONNX against torch, largest difference (pixels, probabilities): {difference:.1e}")
    failed = difference > 1e-2
    for count in (100, 1000):
        everything = [read_rows(one, 0.01) for one in rows[:count]]
        at50 = precision(everything, crowds[:count], 0.5)
        at_all = np.mean([precision(everything, crowds[:count], overlap) for overlap in OVERLAPS])
        print(f"{count} held-out pictures: AP50 {at50:.1%}, AP50-95 {at_all:.1%}, {at_threshold(rows, crowds[:count])}")
        failed |= at50 < 0.85
    if failed:
        raise SystemExit("error: the detector is not good enough to be kept; nothing was written")


def at_threshold(rows: np.ndarray, crowds: list[Crowd], least: float = 0.3) -> str:
    """Return recall and precision of the boxes from a score of `least`, onnxsal's threshold, in words."""
    sure = [read_rows(one, least) for one, _ in zip(rows, crowds, strict=False)]
    hits = sum(int((matches(one, *truth(crowd), 0.5) >= 0).sum()) for one, crowd in zip(sure, crowds, strict=True))
    said, there = sum(len(one.labels) for one in sure), sum(len(crowd.labels) for crowd in crowds)
    return f"recall {hits / there:.1%} and precision {hits / said:.1%} from a score of {least}"


def write_samples(folder: Path) -> None:
    """Write the first held-out pictures, pixel by pixel, and what is true about them."""
    folder.mkdir(exist_ok=True)
    truth = []
    for index, crowd in enumerate(held_out_crowds(SAMPLES)):
        file = f"crowd-{index}.png"
        Image.fromarray(crowd.pixels).save(folder / file, optimize=True)
        truth.append({"file": file, "labels": crowd.labels, "boxes": crowd.boxes})
    lines = ",\n  ".join(json.dumps(row) for row in truth)
    (folder / "crowds.json").write_text(f"[\n  {lines}\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000, help="how many pictures to train on")
    parser.add_argument("--threads", type=int, default=1, help="the last digits of the result depend on it")
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder to write to")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    network = Detector()
    train(network, arguments.pictures, arguments.threads)
    model = export(network)
    check(network, model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, arguments.output / "detector.onnx")
    write_samples(arguments.output / "crowds")


if __name__ == "__main__":
    main()
