"""`onnxsal demo`: one command, every method, the truth beside it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from onnxsal.cli.demo import CROWD, OF_DETECTIONS, SCENE, demo_folder
from onnxsal.errors import ModelError
from onnxsal.methods import methods

Run = Callable[..., Result]


def test_every_method_explains_the_scene_or_the_crowd(run: Run, folder: Path) -> None:
    written_before(folder / "onnxsal-demo")
    result = run("demo", "--overwrite")
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    scene, crowd = (
        json.loads((demo_folder() / kind / f"{kind}.json").read_text())[number]
        for kind, number in (("scenes", SCENE), ("crowds", CROWD))
    )
    start = next(i for i, line in enumerate(lines) if line.startswith(crowd["file"]))
    _check_scene(lines[:start], scene, folder / "onnxsal-demo")
    _check_crowd(lines[start:], crowd, folder / "onnxsal-demo")


def written_before(folder: Path) -> None:
    scene = json.loads((demo_folder() / "scenes" / "scenes.json").read_text())[SCENE]
    folder.mkdir()
    (folder / f"{Path(scene['file']).stem}_panel.png").write_bytes(b"mine")


def _check_scene(lines: list[str], scene: dict[str, Any], folder: Path) -> None:
    stem = Path(scene["file"]).stem
    assert lines[0].startswith(f"{scene['file']}: digit {scene['label']} ")
    names = [name for name in methods() if name != "d-rise"]
    assert [line.split()[0] for line in lines[1:-1]] == names
    assert any(" on the digit" in line for line in lines if line.split()[0] == "grad-cam")
    written = {p.name for p in folder.glob(f"{stem}*")}
    assert written == {f"{stem}_{m}.png" for m in [*names, "panel"]}
    with Image.open(folder / f"{stem}_panel.png") as panel:
        assert panel.width > 800


def _check_crowd(lines: list[str], crowd: dict[str, Any], folder: Path) -> None:
    stem, wanted = Path(crowd["file"]).stem, {f"digit {digit}" for digit in crowd["labels"]}
    assert {" ".join(line.split()[:2]) for line in lines[1:]} == wanted
    shares = [re.search(r"(\d+)% on the digit, (\d+)% of the picture", line) for line in lines if "all of" not in line]
    assert len(shares[1:]) == len(OF_DETECTIONS) * len(wanted)
    assert all(int(share[1]) > 2 * int(share[2]) for share in shares[1:])
    written = {p.name for p in folder.glob(f"{stem}*")}
    assert written == {f"{stem}_{m}_box-{n}.png" for m in [*OF_DETECTIONS, "panel"] for n in range(len(wanted))}


def test_nothing_is_overwritten_unasked(run: Run, folder: Path) -> None:
    written_before(folder / "d")
    result = run("demo", "-o", "d")
    assert result.exit_code == 2
    assert [p.read_bytes() for p in (folder / "d").iterdir()] == [b"mine"]


def test_a_missing_model_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path / name)
    with pytest.raises(ModelError, match="install onnxsal again"):
        demo_folder()
