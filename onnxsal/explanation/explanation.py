"""The result: an attribution, a heatmap in photo coordinates, and all that says where they come from."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxsal.detectors.detections import Detection
from onnxsal.errors import OutputError
from onnxsal.targets import Target

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("png", "npz", "json")


@dataclass(frozen=True)
class Prediction:
    """One class that the model predicts.

    Attributes:
        index: The class.
        label: Its label, or `class 7` where the card has none.
        score: What the model outputs for it.
        probability: In [0, 1]; the softmax of the scores where the model outputs logits.
    """

    index: int
    label: str
    score: float
    probability: float

    def __str__(self) -> str:
        """Return `tabby 0.39`."""
        return f"{self.label} {self.probability:.2f}"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the model gave one score for one image.

    Attributes:
        attribution: Signed float32 at the method's own resolution: (h, w) of the layer, or the shape of
            one image in the model's own layout.
        heatmap: (H, W) float32 in [0, 1], in coordinates of the photo (of the model input, for an
            array), 0 where the model did not see the photo. 1 is the map's maximum within the input.
        target: What is explained; `target.index` is the class or channel, `target.label` its label.
        score: What the model gives for the target: the logit, or what the target's form says.
        method: Name of the method.
        settings: The method's settings, and the layer it used.
        predictions: The model's best classes, the first first; empty for a model without classes.
        provenance: `model`, `model_sha256`, versions, `provider`; `like`, whose conventions were taken, if any.
        photo: The picture explained, as it is drawn.
        name: Name of the picture, for files.
        error: Standard error of `attribution`, where that was sampled; None elsewhere.
        detection: The detection that is explained, in pixels of the photo; None of a class.
    """

    attribution: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.float32]
    target: Target
    score: float
    method: str
    settings: Mapping[str, Any]
    predictions: tuple[Prediction, ...]
    provenance: Mapping[str, str]
    photo: "Image.Image"
    name: str = "image"
    error: npt.NDArray[np.float32] | None = None
    detection: Detection | None = None

    def __repr__(self) -> str:
        """Return what is explained, and of what; not the arrays, which fill screens."""
        return f"<onnxsal.Explanation of {self.name!r} by {self.title}, score {self.score:.4g}>"

    @property
    def title(self) -> str:
        """What the picture shows, in one line."""
        return f"{self.method}: {self.target}"

    def credited(self, like: str | None) -> "Explanation":
        """Return the same explanation, its provenance telling whose conventions were taken."""
        return self if like is None else replace(self, provenance={**self.provenance, "like": like})

    def overlay(self, *, alpha: float = 0.7, colormap: str | None = None) -> "Image.Image":
        """Return the photo with the heatmap over it.

        Args:
            alpha: Opacity of the hottest place, in [0, 1].
            colormap: Name of a colour map of `onnxsal.render`; None takes the default.
        """
        from onnxsal import render

        picture = render.overlay(self.photo, self.heatmap, alpha=alpha, colormap=colormap)
        if self.detection is None:
            return picture
        return render.draw_boxes(picture, [self.detection.box], [self.detection.caption])

    def facts(self) -> dict[str, Any]:
        """Return all but the arrays, as JSON types."""
        return {
            "image": self.name,
            "method": self.method,
            "settings": dict(self.settings),
            "target": self.target.facts(),
            "score": self.score,
            "predictions": [vars(p) for p in self.predictions],
            "provenance": dict(self.provenance),
        } | ({} if self.detection is None else {"detection": vars(self.detection)})

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the explanation; the name's ending says how.

        `.png` is the overlay; `.npz` has `attribution`, `heatmap`, `facts` (JSON text), and `error` where there is
        one; `.json` has the facts and the heatmap as lists of rows.

        Raises:
            OutputError: The ending is another, the file is there already, or cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            raise OutputError(f"{path.name} ends in {path.suffix!r}; explanations are saved as .png, .npz or .json")
        return write_file(path, self.encode(kind), overwrite=overwrite)

    def encode(self, kind: str) -> bytes:
        """Return the bytes of a file of that kind: `png`, `npz` or `json`."""
        if kind == "png":
            return self._repr_png_()
        if kind == "npz":
            buffer = io.BytesIO()
            facts = np.array(json.dumps(self.facts()))
            arrays: dict[str, Any] = {"attribution": self.attribution, "heatmap": self.heatmap, "facts": facts}
            np.savez_compressed(buffer, **arrays | ({} if self.error is None else {"error": self.error}))
            return buffer.getvalue()
        rows = np.round(self.heatmap.astype(np.float64), 4).tolist()
        return json.dumps(self.facts() | {"heatmap": rows}).encode()

    def _repr_png_(self) -> bytes:
        """Show the overlay in a notebook."""
        from onnxsal import render

        return render.png_bytes(self.overlay())


def save_panel(explanations: "Sequence[Explanation]", path: Path, *, overwrite: bool = False) -> Path:
    """Write the explanations of one photo and target side by side, each under its method's name, as PNG.

    Raises:
        OutputError: The file is there already, or cannot be written.
    """
    from onnxsal import render

    first = explanations[0]
    maps = [(explanation.method, explanation.heatmap) for explanation in explanations]
    found = None if first.detection is None else (first.detection.box, first.detection.caption)
    picture = render.panel(first.photo, maps, title=str(first.target), detection=found)
    return write_file(path, render.png_bytes(picture), overwrite=overwrite)


def write_file(path: Path, data: bytes, *, overwrite: bool) -> Path:
    """Write a file whole or not at all.

    Raises:
        OutputError: It is there already and `overwrite` is off, or it cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        handle, temporary = tempfile.mkstemp(prefix=".onnxsal-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
            if overwrite:
                os.replace(temporary, path)
            else:
                _link(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that stands there already.

    Raises:
        OutputError: It does, and `overwrite` is off.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and a file would go there")
    if not overwrite and path.exists():
        raise OutputError(f"{path} is there already: choose another place, or overwrite it (--overwrite)")


def _link(temporary: str, path: Path) -> None:
    """Move without overwriting what another process may have put there meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(f"{path} is there already: choose another place, or overwrite it (--overwrite)") from None
    except OSError:  # a file system without links
        os.replace(temporary, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
