"""The shared models with their cards, and what was verified about them."""

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from onnxsal.model.card import Card, read_card

CARDS = Path(__file__).parent / "cards"
ZOO = Path(os.environ["ONNXSAL_ZOO"]) if os.environ.get("ONNXSAL_ZOO") else None

needs_zoo = pytest.mark.skipif(ZOO is None, reason="ONNXSAL_ZOO does not name a folder with models/ and images/")


def model_path(stem: str) -> Path:
    return ZOO / "models" / f"{stem}.onnx"


def photo_path(name: str) -> Path:
    return ZOO / "images" / name


def card_of(stem: str) -> Card:
    """Return a shared model's card, its label file taken from the models' folder."""
    return read_card(CARDS / f"{stem}.toml", labels_folder=ZOO / "models")


def open_session(stem: str) -> ort.InferenceSession:
    """Open the original file in plain ONNX Runtime."""
    options = ort.SessionOptions()
    # Files of IR 3 list their weights as inputs, and each weight would be a warning.
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model_path(stem), options, providers=["CPUExecutionProvider"])


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


Box = tuple[int, int, int, int]
# As SOURCES.md of the shared models has them: seen on the photo by eye, in its pixels.
DETECTIONS: dict[tuple[str, str], list[tuple[str, Box]]] = {
    ("yolox_nano_416", "dog_bike_truck.jpg"): [
        ("dog", (133, 207, 325, 542)),
        ("car", (467, 78, 692, 172)),
        ("bicycle", (46, 132, 572, 431)),
    ],
    ("yolox_nano_416", "bus.jpg"): [("bus", (49, 80, 603, 424))],
    ("yolox_nano_416", "elephant.jpg"): [("elephant", (55, 60, 224, 231))],
    ("yolov8n_640_dynamic_int8", "dog_bike_truck.jpg"): [
        ("dog", (132, 222, 308, 541)),
        ("bicycle", (132, 141, 566, 417)),
        ("truck", (471, 77, 692, 172)),
    ],
    ("ultraface_rfb_320", "faces.jpg"): [
        ("face", (663, 307, 728, 396)),
        ("face", (450, 305, 516, 395)),
        ("face", (189, 331, 248, 405)),
        ("face", (575, 74, 632, 140)),
        ("face", (325, 123, 377, 196)),
    ],
}
