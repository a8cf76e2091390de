"""`onnxsal demo`: one command, every method, the truth beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from onnxsal.cli.demo import SCENE, demo_folder
from onnxsal.errors import ModelError
from onnxsal.methods import methods

Run = Callable[..., Result]


def test_every_method_explains_the_scene(run: Run, folder: Path) -> None:
    result = run("demo")
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    scene = json.loads((demo_folder() / "scenes" / "scenes.json").read_text())[SCENE]
    stem = Path(scene["file"]).stem
    assert lines[0].startswith(f"{scene['file']}: digit {scene['label']} ")
    names = [name for name in methods() if name != "d-rise"]
    assert [line.split()[0] for line in lines[1:-1]] == names
    assert any(" on the digit" in line for line in lines if line.split()[0] == "grad-cam")
    written = {p.name for p in (folder / "onnxsal-demo").iterdir()}
    assert written == {f"{stem}_{m}.png" for m in [*names, "panel"]}
    with Image.open(folder / "onnxsal-demo" / f"{stem}_panel.png") as panel:
        assert panel.width > 800


def test_nothing_is_overwritten_unasked(run: Run, folder: Path) -> None:
    (folder / "d").mkdir()
    scene = json.loads((demo_folder() / "scenes" / "scenes.json").read_text())[SCENE]
    (folder / "d" / f"{Path(scene['file']).stem}_panel.png").write_bytes(b"mine")
    result = run("demo", "-o", "d")
    assert result.exit_code == 2
    assert len(list((folder / "d").iterdir())) == 1
    assert run("demo", "-o", "d", "--overwrite").exit_code == 0


def test_a_missing_model_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path / name)
    with pytest.raises(ModelError, match="install onnxsal again"):
        demo_folder()
