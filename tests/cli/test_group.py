"""The group of commands: quick to help, and every run ends as it should."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import onnxsal
from onnxsal.cli import cli
from onnxsal.cli.group import COMMANDS
from onnxsal.errors import ModelError

Run = Callable[..., Result]

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "PIL", "scipy", "rich")


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["explain", "--help"], ["inspect", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from onnxsal.cli import cli; cli.main(sys.argv[1:], standalone_mode=False);"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = python(code, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_of_the_group_imports_no_command() -> None:
    code = (
        "import sys; from onnxsal.cli import cli; cli.main(['--help'], standalone_mode=False);"
        f"print([c for c in {list(COMMANDS)!r} if 'onnxsal.cli.' + c in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no wait4")
def test_help_takes_a_blink() -> None:
    """Processor time, which other work on the machine stretches less than the clock; the clock's goal is 0.15 s."""

    def seconds() -> float:
        process = subprocess.Popen(
            [sys.executable, "-c", "from onnxsal.cli import main; main()", "--help"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_every_command_is_listed_with_its_own_first_line(run: Run) -> None:
    shown = " ".join(run("--help").output.split())
    for name, text in COMMANDS.items():
        command = import_module(f"onnxsal.cli.{name}").command
        assert command.name == name
        assert command.help
        assert f"{name} {text}" in shown


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    result = run()
    assert result.exit_code == 0
    assert result.output == run("--help").output


def test_the_version_is_the_package_s(run: Run) -> None:
    assert run("--version").output.split()[-1] == onnxsal.__version__


def ends_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Return how a command that raises `error` ends."""

    @click.command("methods")
    def failing() -> None:
        raise error

    monkeypatch.setattr("onnxsal.cli.methods.command", failing)
    return CliRunner().invoke(cli, ["methods"])


def test_an_interrupted_run_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ends_with(KeyboardInterrupt(), monkeypatch)
    assert result.exit_code == 130
    assert result.output.strip() == ""


def test_an_error_is_one_line_without_control_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ends_with(ModelError("model\nerror: all is well \x1b[2J\u202e[red]x[/red]"), monkeypatch)
    assert result.exit_code == 2
    assert result.stderr == "error: model error: all is well [2J [red]x[/red]\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ends_with(ZeroDivisionError("a bug"), monkeypatch)
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_closed_pipe_ends_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from onnxsal.cli import main; main()", "methods"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() != 0


def test_methods_are_listed_with_their_settings(run: Run) -> None:
    lines = run("methods").output.splitlines()
    grad_cam = next(line for line in lines if line.split()[0] == "grad-cam")
    assert "arXiv:1610.02391" in grad_cam
    assert grad_cam.endswith("layer=none relu=true")
    captum = lines[lines.index("--like captum: captum 0.9") :]
    assert next(line for line in captum if line.split()[:1] == ["grad-cam"]).endswith("relu=false")


def test_help_names_every_preset(run: Run) -> None:
    from onnxsal.methods.presets import PRESETS

    for command in ("explain", "compile"):
        said = " ".join(run(command, "--help").output.split())
        assert all(name in said.partition("--like")[2] for name in PRESETS)


def test_methods_are_told_to_programs(run: Run) -> None:
    listed = {info["name"]: info for info in json.loads(run("methods", "--json").output)}
    assert {"gradient", "grad-x-input", "guided-backprop", "deconvnet", "cam", "grad-cam", "guided-grad-cam"} <= set(
        listed
    )
    assert listed["grad-x-input"]["settings"] == {"rule": "gradient"}
    assert listed["grad-x-input"]["like"] == {"captum": {}}
    assert listed["grad-cam"]["like"] == {"captum": {"relu": False}, "pair": {}, "torchray": {}}
    assert all(info["source"] and info["summary"] for info in listed.values())


def test_the_entry_point_is_the_group(tmp_path: Path) -> None:
    done = python("from onnxsal.cli import main; main()", "explain", str(tmp_path / "none.onnx"), "photo.jpg")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
