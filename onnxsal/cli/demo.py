"""`onnxsal demo`: pictures whose truth is known, explained by every method."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.tables import Table
    from onnxsal.detectors.detections import Detection
    from onnxsal.explanation import Explanation, Model

SCENE, CROWD = 0, 0

# What explains the detections; D-RISE with as many masks as take seconds.
OF_DETECTIONS: dict[str, dict[str, Any]] = {"d-rise": {"samples": 500}, "odam": {}, "grad-cam": {}}


@click.command("demo")
@options.folder_option(Path("onnxsal-demo"))
@options.overwrite_option()
def command(output: Path, overwrite: bool) -> None:
    """Explain two pictures by the built-in models, and write a panel of each.

    The first is a handwritten digit in clutter; a classifier tells which digit it is. For each method, the line
    says whether the hottest place of its map lies on the digit. In the second there are several digits; a detector
    finds them, and the lines say how much of each map lies on the digit that it is to explain.
    """
    import onnxsal
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.tables import aligned

    folder = demo_folder()
    outputs = Outputs(output, overwrite=overwrite)
    scene, crowd = _truth(folder, "scenes", SCENE), _truth(folder, "crowds", CROWD)
    classifier, detector = (onnxsal.load(folder / f"{name}.onnx") for name in ("digits", "detector"))
    photos = [folder / "scenes" / scene["file"], folder / "crowds" / crowd["file"]]
    found = detector.detect(photos[1])
    scene_files, crowd_files = _scene_files(outputs, photos[0]), _crowd_files(outputs, photos[1], found)
    outputs.check([*scene_files.values(), *crowd_files.values()])
    outputs.make_folder()
    click.echo(aligned(_explain_scene(classifier, photos[0], scene, scene_files, overwrite)))
    click.echo(aligned(_explain_crowd(detector, photos[1], crowd, crowd_files, overwrite)))


def demo_folder() -> Path:
    """Return the folder with the demo's models and pictures: shipped in the wheel, or the source tree's."""
    from importlib.resources import files

    from onnxsal.errors import ModelError

    package = Path(str(files("onnxsal")))
    for folder in (package / "_demo", package.parent / "models" / "digits"):
        if (folder / "digits.onnx").is_file():
            return folder
    raise ModelError("the demo's model is missing from this installation: install onnxsal again")


def _truth(folder: Path, kind: str, number: int) -> dict[str, Any]:
    """Return what is true of a picture: its file, and what it shows where."""
    pictures: list[dict[str, Any]] = json.loads((folder / kind / f"{kind}.json").read_text(encoding="utf-8"))
    return pictures[number]


# ----- One digit, classified -----


def _scene_files(outputs: "Outputs", photo: Path) -> dict[str, Path]:
    """Return the file of each method, and that of the panel."""
    from onnxsal.methods import methods

    names = [name for name, info in methods().items() if info.asks != "detections"]
    files = {name: outputs.results(photo.stem, name, "top")[0] for name in names}
    return files | {"panel": outputs.panel(photo.stem, "top")}


def _explain_scene(
    model: "Model", photo: Path, truth: dict[str, Any], files: dict[str, Path], overwrite: bool
) -> "Table":
    from onnxsal.cli.tables import Table
    from onnxsal.explanation.explanation import save_panel

    explanations = [model.explain(photo, name) for name in files if name != "panel"]
    rows = [(e.method, _peak(e, truth["box"]), e.save(files[e.method], overwrite=overwrite)) for e in explanations]
    rows.append(("all of them", "", save_panel(explanations, files["panel"], overwrite=overwrite)))
    return Table(f"{photo.name}: {explanations[0].predictions[0]}; the digit's box is {tuple(truth['box'])}", rows)


def _peak(explanation: "Explanation", box: Sequence[int]) -> str:
    y, x = divmod(int(explanation.heatmap.argmax()), explanation.heatmap.shape[1])
    inside = box[0] <= x < box[2] and box[1] <= y < box[3]
    return f"peak at ({x}, {y}), {'on' if inside else 'off'} the digit"


# ----- Several digits, detected -----


def _crowd_files(outputs: "Outputs", photo: Path, found: "Sequence[Detection]") -> dict[tuple[str, int], Path]:
    """Return the file of each method and detection, and that of each detection's panel."""
    files = {
        (name, d.number): outputs.results(photo.stem, name, f"box:{d.number}")[0]
        for d in found
        for name in OF_DETECTIONS
    }
    return files | {("panel", d.number): outputs.panel(photo.stem, f"box:{d.number}") for d in found}


def _explain_crowd(
    model: "Model", photo: Path, truth: dict[str, Any], files: dict[tuple[str, int], Path], overwrite: bool
) -> "Table":
    from onnxsal.cli.tables import Table
    from onnxsal.explanation.explanation import save_panel

    every = [model.explain(photo, name, "all", **settings) for name, settings in OF_DETECTIONS.items()]
    rows: list[tuple[object, ...]] = []
    for explanations in zip(*every, strict=True):
        number, detection = explanations[0].target.index, explanations[0].detection
        for e in explanations:
            path = e.save(files[e.method, number], overwrite=overwrite)
            rows.append((detection, e.method, _share(e, truth["boxes"]), path))
        panel = save_panel(explanations, files["panel", number], overwrite=overwrite)
        rows.append((detection, "all of them", "", panel))
    labels = ", ".join(f"{label} in {tuple(box)}" for label, box in zip(truth["labels"], truth["boxes"], strict=True))
    return Table(f"{photo.name}: {labels}", rows)


def _share(explanation: "Explanation", boxes: Sequence[Sequence[int]]) -> str:
    """Say how much of the heat lies within the true box that the detection comes nearest to."""
    import numpy as np

    from onnxsal.detectors.boxes import iou

    assert explanation.detection is not None
    x1, y1, x2, y2 = boxes[int(iou(np.array([explanation.detection.box]), np.array(boxes, float)).argmax())]
    heat = explanation.heatmap
    inside, area = heat[y1:y2, x1:x2].sum() / heat.sum(), (y2 - y1) * (x2 - x1) / heat.size
    return f"{inside:.0%} on the digit, {area:.0%} of the picture"
