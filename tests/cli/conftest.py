"""The command line in a folder of its own, with a small classifier and a photo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result
from support.small import classifier, save_photo

from onnxsal.cli import cli

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXSAL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> Path:
    path = folder / "small.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture
def photo(folder: Path) -> Path:
    return save_photo(folder / "photo.png")


@pytest.fixture
def run(folder: Path) -> Run:
    """Return what runs the command line."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="onnxsal", catch_exceptions=True)

    return invoke


@pytest.fixture
def refused(run: Run, folder: Path) -> Callable[..., str]:
    """Return what runs the command line, sees it refuse as it must, and returns the line it says."""

    def check(*arguments: object) -> str:
        before = _contents(folder)
        result = run(*arguments)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.endswith("\n")
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert _contents(folder) == before, "something was written"
        return result.stderr

    return check


def _contents(folder: Path) -> dict[str, Any]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
