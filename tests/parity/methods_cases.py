"""What `freeze_methods.py` and `freeze_perturbation.py` write and the tests beside them read."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("methods_data")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """How to ask onnxsal for a map that another library made.

    Attributes:
        peer: The other library's call, in words.
        method: Name of onnxsal's method.
        target: As `Model.explain` takes it.
        layer: Name of an ONNX value; None where the method takes none, or is to choose itself.
        settings: The method's settings.
        reads: What is compared: the attribution, or the heatmap, as it is or after min-max scaling.
    """

    peer: str
    method: str
    target: str
    layer: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    reads: Literal["attribution", "heatmap", "min-max heatmap"] = "attribution"


def save(name: str, x: Floats, maps: Sequence[tuple[Case, Floats]], folder: Path = FOLDER) -> Path:
    """Write the input and the maps of one network."""
    arrays: dict[str, Any] = {f"map{number}": array for number, (_, array) in enumerate(maps)}
    said = json.dumps([dataclasses.asdict(case) for case, _ in maps])
    path = folder / f"{name}.npz"
    np.savez_compressed(path, cases=np.array(said), x=x, **arrays)
    return path


def load(name: str, folder: Path = FOLDER) -> tuple[Floats, list[tuple[Case, Floats]]]:
    """Return the input and the maps of one network."""
    with np.load(folder / f"{name}.npz") as saved:
        cases = [Case(**facts) for facts in json.loads(str(saved["cases"]))]
        return saved["x"], [(case, saved[f"map{number}"]) for number, case in enumerate(cases)]
