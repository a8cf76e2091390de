"""`onnxsal demo`: a scene whose truth is known, explained by every method."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsal.cli import options

if TYPE_CHECKING:
    from onnxsal.explanation import Explanation

SCENE = 0


@click.command("demo")
@options.folder_option(Path("onnxsal-demo"))
@options.overwrite_option()
def command(output: Path, overwrite: bool) -> None:
    """Explain a scene of the built-in model with every method, and write the panel.

    The scene is a handwritten digit in clutter; the model tells which digit it is. For each method, the line
    says whether the hottest place of its map lies on the digit.
    """
    import onnxsal
    from onnxsal.cli.outputs import Outputs
    from onnxsal.cli.tables import Table, aligned
    from onnxsal.explanation.explanation import save_panel
    from onnxsal.methods import methods

    folder = demo_folder()
    scene = json.loads((folder / "scenes" / "scenes.json").read_text(encoding="utf-8"))[SCENE]
    photo = folder / "scenes" / scene["file"]
    outputs = Outputs(output, overwrite=overwrite)
    names = [name for name, info in methods().items() if info.asks != "detections"]
    files = {name: outputs.results(photo.stem, name, "top")[0] for name in names}
    panel = outputs.panel(photo.stem, "top")
    outputs.check([*files.values(), panel])

    model = onnxsal.load(folder / "digits.onnx")
    explanations = [model.explain(photo, name) for name in names]
    outputs.make_folder()
    rows = []
    for explanation in explanations:
        path = explanation.save(files[explanation.method], overwrite=overwrite)
        rows.append((explanation.method, _verdict(explanation, scene["box"]), path))
    save_panel(explanations, panel, overwrite=overwrite)
    rows.append(("all of them", "", panel))
    title = f"{photo.name}: {explanations[0].predictions[0]}; the digit's box is {tuple(scene['box'])}"
    click.echo(aligned(Table(title, rows)))


def demo_folder() -> Path:
    """Return the folder with the demo's model and scenes: shipped in the wheel, or the source tree's."""
    from importlib.resources import files

    from onnxsal.errors import ModelError

    package = Path(str(files("onnxsal")))
    for folder in (package / "_demo", package.parent / "models" / "digits"):
        if (folder / "digits.onnx").is_file():
            return folder
    raise ModelError("the demo's model is missing from this installation: install onnxsal again")


def _verdict(explanation: "Explanation", box: Sequence[int]) -> str:
    y, x = divmod(int(explanation.heatmap.argmax()), explanation.heatmap.shape[1])
    inside = box[0] <= x < box[2] and box[1] <= y < box[3]
    return f"peak at ({x}, {y}), {'on' if inside else 'off'} the digit"
