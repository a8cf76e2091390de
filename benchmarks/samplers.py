"""What is timed of methods of many runs: each tool with the same model, samples and threads, set up beforehand.

onnxsal is called as a user calls it, photo to map, its sessions open; what else is called starts from the model's
input. ONNX Runtime alone, in batches of eight, is the limit that loops are measured by.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import numpy as np
import torch
from contenders import CPU, TARGET, Contender
from gradient import seconds

import onnxsal
from onnxsal.session import Session

FORWARD = "ONNX Runtime, forward only"
BATCH = 8
YOLOX = {
    "task": "detection",
    "layout": "NCHW",
    "size": [416, 416],
    "resize": "top_left_pad",
    "channels": "BGR",
    "scale": 1.0,
    "mean": 0.0,
    "std": 1.0,
}


@dataclass(frozen=True)
class Setting:
    """What all tools of a case share.

    Attributes:
        folder: Where exported models are kept.
        zoo: Where shared models and photos lie, in `models/` and `images/`.
        samples: How many each tool takes.
        batches: What captum may choose its batch from.
    """

    folder: Path
    zoo: Path
    samples: int
    batches: tuple[int, ...]


Case = Callable[[Setting], Iterator[Contender]]


# ----- Forward passes alone -----


def forward(path: Path, x: np.ndarray, samples: int, batch: int = BATCH, tool: str = FORWARD) -> Contender:
    """Run so many images through a model in batches, and do nothing else."""
    session, image = open_session(path)
    images = np.repeat(x, batch, axis=0)

    def run() -> None:
        for start in range(0, samples, batch):
            session.run({image: images[: samples - start]})

    return Contender("", tool, run)


def open_session(path: Path) -> tuple[Session, str]:
    """Open a model as it is; return the name of its first input beside."""
    session = Session(path, CPU)
    return session, next(iter(session.inputs))


def with_free_batch(model: onnxsal.Model, folder: Path) -> Path:
    """Write the model that onnxsal makes of one whose batch is fixed, which its forward passes are timed with."""
    from onnxsal.explanation.sharing import save_model

    path = folder / f"{model.name}-free-batch.onnx"
    save_model(model.network.graph(batched=True).clone(), path)
    return path


def onnxsal_tool(model: onnxsal.Model, image: Any, samples: int, **given: Any) -> Contender:
    """Explain an image; what is compiled and opened at the first call is so already."""
    model.explain(image, samples=2, **given)
    return Contender("", "onnxsal", lambda: model.explain(image, samples=samples, **given))


# ----- RISE -----


def rise_mobilenet(setting: Setting) -> Iterator[Contender]:
    """MobileNetV2 of torchvision, exported with a free batch."""
    path, x = networks.make_onnx("MobileNetV2", setting.folder), networks.images(1).numpy()
    yield from rise(onnxsal.load(path), path, path, x, setting, dianna_batch=100)


def rise_squeezenet(setting: Setting) -> Iterator[Contender]:
    """SqueezeNet as it is deployed, for one image at a time."""
    path, x = setting.zoo / "models" / "squeezenet1.1_caffe2_fp32.onnx", networks.images(1).numpy()
    model = onnxsal.load(path)
    yield from rise(model, path, with_free_batch(model, setting.folder), x, setting, dianna_batch=1)


def rise(
    model: onnxsal.Model, path: Path, free: Path, x: np.ndarray, setting: Setting, dianna_batch: int
) -> Iterator[Contender]:
    """Yield RISE by every tool, with grids of 8 x 8 and each cell kept by one half."""
    count = setting.samples
    yield forward(free, x, count)
    yield onnxsal_tool(model, x, count, method="rise", target=TARGET, cells=8)
    yield Contender("", "plain loop, one by one", lambda: plain_rise(*opened, x, count, 1))
    yield Contender("", f"plain loop, batches of {BATCH}", lambda: plain_rise(*opened_free, x, count, BATCH))
    opened, opened_free = open_session(path), open_session(free)
    yield dianna(path, x, count, dianna_batch)


def plain_rise(session: Session, image: str, x: np.ndarray, count: int, batch: int) -> np.ndarray:
    """Return the map of a loop as one writes it: masks enlarged and cut by PyTorch, images masked by NumPy."""
    total = np.zeros(x.shape[2:], np.float32)
    for start in range(0, count, batch):
        masks = enlarged_masks(min(batch, count - start), x.shape[2:], 8)
        (scores,) = session.run({image: x * masks[:, None]}).values()
        total += np.tensordot(scores.reshape(len(masks), -1)[:, TARGET], masks, 1)
    return total / count / 0.5


def enlarged_masks(count: int, size: tuple[int, ...], cells: int) -> np.ndarray:
    """Return masks of random cells, enlarged bilinearly and cut out at random."""
    height, width = ((cells + 1) * -(-n // cells) for n in size)
    grids = (torch.rand(count, 1, cells, cells) < 0.5).float()
    large = torch.nn.functional.interpolate(grids, (height, width), mode="bilinear", align_corners=False)[:, 0]
    y, x = (torch.randint(0, n - m, (1,)).item() for n, m in zip((height, width), size, strict=True))
    return large[:, y : y + size[0], x : x + size[1]].numpy()


def dianna(path: Path, x: np.ndarray, count: int, batch: int) -> Contender:
    """DIANNA's RISE, told the probability that it would search for by itself."""
    from dianna.methods.rise_image import RISEImage

    method = RISEImage(n_masks=count, feature_res=8, p_keep=0.5, axis_labels={0: "channels"})
    return Contender("", "DIANNA", lambda: method.explain(str(path), x[0], [TARGET], batch_size=batch))


# ----- D-RISE -----


def drise_yolox(setting: Setting) -> Iterator[Contender]:
    """YOLOX-nano as it is deployed; all detections of a photo in the same passes, by every tool."""
    path, photo = setting.zoo / "models" / "yolox_nano_416.onnx", setting.zoo / "images" / "dog_bike_truck.jpg"
    model = onnxsal.load(path, card=YOLOX)
    x, free, count = read_photo(model, photo), with_free_batch(model, setting.folder), setting.samples
    yield forward(free, x, count)
    yield onnxsal_tool(model, photo, count, method="d-rise", target="all")
    detector = Detector(path)
    yield Contender("", "plain loop, one by one", lambda: plain_drise(detector, x, count))
    yield microsoft(detector, x, count)


def read_photo(model: onnxsal.Model, photo: Path) -> np.ndarray:
    """Return the model's input."""
    from onnxsal.explanation.inputs import read_samples

    return read_samples(photo, model.card)[0][0].x


class Detector:
    """YOLOX on ONNX Runtime, decoded by NumPy and suppressed by torchvision, as other tools need it."""

    def __init__(self, path: Path) -> None:
        self._session, self._image = open_session(path)
        cells = [np.mgrid[:n, :n][::-1].reshape(2, -1).T for n in (52, 26, 13)]
        self._corners = np.concatenate(cells).astype(np.float32)
        self._strides = np.repeat([8, 16, 32], [52 * 52, 26 * 26, 13 * 13])[:, None].astype(np.float32)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (P, 4), class probabilities (P, 80) and objectness (P,) of one input."""
        (rows,) = self._session.run({self._image: x}).values()
        centres = (rows[0, :, :2] + self._corners) * self._strides
        half = np.exp(rows[0, :, 2:4]) * self._strides / 2
        return np.concatenate([centres - half, centres + half], axis=1), rows[0, :, 5:], rows[0, :, 4]

    def final(self, x: np.ndarray, threshold: float = 0.3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is left of these once it is suppressed."""
        from torchvision.ops import batched_nms

        boxes, classes, objectness = (torch.from_numpy(a) for a in self(x))
        sure = classes.max(dim=1).values * objectness
        at = torch.nonzero(sure > threshold)[:, 0]
        at = at[batched_nms(boxes[at], sure[at], classes[at].argmax(dim=1), 0.5)]
        return boxes[at], classes[at], objectness[at]


def plain_drise(detector: Detector, x: np.ndarray, count: int) -> np.ndarray:
    """Return the maps of a loop as one writes it, a mask at a time, from the paper's similarity."""
    from torchvision.ops import box_iou

    boxes, classes, _ = detector.final(x)
    total = np.zeros((len(boxes), *x.shape[2:]), np.float32)
    unit = torch.nn.functional.normalize(classes, dim=1)
    for _ in range(count):
        (mask,) = enlarged_masks(1, x.shape[2:], 16)
        found, found_classes, objectness = (torch.from_numpy(a) for a in detector(x * mask))
        cosine = unit @ torch.nn.functional.normalize(found_classes, dim=1).T
        weights = (box_iou(boxes, found) * cosine * objectness).max(dim=1).values
        total += weights.numpy()[:, None, None] * mask
    return total / count / 0.5


def microsoft(detector: Detector, x: np.ndarray, count: int) -> Contender:
    """Microsoft's D-RISE, which asks a model of its own kind for detections after suppression."""
    from vision_explanation_methods.explanations import common, drise

    class Model(common.GeneralObjectDetectionModelWrapper):
        def predict(self, x: torch.Tensor) -> list[Any]:
            return [record(*detector.final(x.numpy(), 0.05))]

    def record(boxes: torch.Tensor, classes: torch.Tensor, objectness: torch.Tensor) -> Any:
        return common.DetectionRecord(boxes, objectness, classes)

    def run() -> object:
        found = [record(*detector.final(x))]
        return drise.DRISE_saliency(Model(), torch.from_numpy(x), found, count)

    return Contender("", "Microsoft", run)


# ----- SmoothGrad -----


def smoothgrad_resnet(setting: Setting) -> Iterator[Contender]:
    """ResNet-50 of torchvision."""
    yield from smoothgrad("ResNet-50", setting)


def smoothgrad_mobilenet(setting: Setting) -> Iterator[Contender]:
    """MobileNetV2 of torchvision."""
    yield from smoothgrad("MobileNetV2", setting)


def smoothgrad(network: str, setting: Setting) -> Iterator[Contender]:
    """Yield SmoothGrad by every tool, noise of 15 % of the image's range."""
    path, x, count = networks.make_onnx(network, setting.folder), networks.images(1), setting.samples
    yield forward(path, x.numpy(), count)
    model = onnxsal.load(path)
    yield onnxsal_tool(model, x.numpy(), count, method="smoothgrad", target=TARGET)
    yield noise_tunnel("captum", networks.make_torch(network), x, setting)
    try:
        yield noise_tunnel("onnx2torch + captum", networks.make_onnx2torch(network, setting.folder), x, setting)
    except ImportError:
        print("onnx2torch is left out: it is not installed", file=sys.stderr)


def noise_tunnel(tool: str, module: torch.nn.Module, x: torch.Tensor, setting: Setting) -> Contender:
    """Captum's NoiseTunnel over Saliency, in the batches that are fastest here."""
    from captum.attr import NoiseTunnel, Saliency

    method, deviation = NoiseTunnel(Saliency(module.requires_grad_(False))), 0.15 * float(x.max() - x.min())

    def of_batch(batch: int) -> Contender:
        given = {"nt_samples": setting.samples, "nt_samples_batch_size": batch, "stdevs": deviation, "abs": False}

        def run() -> object:
            return method.attribute(x.clone().requires_grad_(), target=TARGET, **given)

        return Contender("", f"{tool}, batches of {batch}", run)

    candidates = [of_batch(batch) for batch in setting.batches]
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=seconds)


# ----- What the loop itself costs -----


def cost_resnet(setting: Setting) -> Iterator[Contender]:
    """RISE on ResNet-50, against as many plain forward passes."""
    path, x = networks.make_onnx("ResNet-50", setting.folder), networks.images(1).numpy()
    model = onnxsal.load(path)
    yield forward(path, x, setting.samples)
    yield onnxsal_tool(model, x, setting.samples, method="rise", target=TARGET)


def cost_yolox(setting: Setting) -> Iterator[Contender]:
    """D-RISE on YOLOX-nano, of all detections of a photo, against as many plain forward passes."""
    yield from list(drise_yolox(setting))[:2]


CASES: dict[str, tuple[Case, int]] = {
    "rise MobileNetV2": (rise_mobilenet, 300),
    "rise SqueezeNet": (rise_squeezenet, 200),
    "d-rise YOLOX-nano": (drise_yolox, 200),
    "smoothgrad ResNet-50": (smoothgrad_resnet, 50),
    "smoothgrad MobileNetV2": (smoothgrad_mobilenet, 50),
    "cost ResNet-50": (cost_resnet, 1000),
    "cost YOLOX-nano": (cost_yolox, 1000),
}
"""What is measured, and of how many samples."""
