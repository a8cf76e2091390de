"""`onnxsal compile`: one file that runs without onnxsal."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from onnx import helper
from support.small import classifier

Run = Callable[..., Result]
DIGITS = Path(__file__).parents[2] / "models/digits/digits.onnx"


def test_the_file_runs_on_its_own_and_answers_to_image_and_target(run: Run, model: Path, folder: Path) -> None:
    result = run("compile", model, "-o", "out/explainer.onnx")
    assert result.exit_code == 0, result.exception
    session = onnxruntime.InferenceSession(folder / "out" / "explainer.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)

    def maps(*target: int) -> np.ndarray:
        return session.run(["saliency_map"], {"image": x, "target": np.array(target, np.int64)})[0]

    logits = session.run(["logits"], {"image": x, "target": np.zeros(3, np.int64)})[0]
    top = maps(-1, -1, -1)
    assert top.shape == (3, 32, 32)
    np.testing.assert_array_equal(top, maps(*logits.argmax(1)))
    assert np.abs(maps(0, 0, 0) - maps(1, 1, 1)).max() > 0.1
    assert np.abs(top[0] - top[1]).max() > 0.1


def test_it_says_what_it_wrote(run: Run, model: Path) -> None:
    lines = run("compile", model, "-m", "gradient", "-o", "out.onnx").output.splitlines()
    assert lines[0].startswith("out.onnx: gradient, ")
    assert "opset 17, IR 8" in lines[0] or "opset 21" in lines[0]
    rows = [line.split() for line in lines[1:]]
    assert ["input", "target", "int64"] in [row[:3] for row in rows]
    assert {row[1] for row in rows if row[0] == "output"} == {"logits", "attribution", "saliency_map"}


def test_settings_layer_target_and_card_reach_the_graph(run: Run, model: Path, folder: Path) -> None:
    (folder / "card.toml").write_text("mean = [0.25]")
    arguments = ["-m", "grad-cam", "-l", "conv", "--set", "relu=false", "-t", "prob:top", "--card", "card.toml"]
    result = run("compile", model, "-o", "out.onnx", *arguments)
    assert result.exit_code == 0, result.exception
    metadata = {p.key: p.value for p in onnx.load("out.onnx").metadata_props}
    assert metadata["onnxsal.mean"] == "[0.25]"
    assert '"layer": "conv"' in metadata["onnxsal.explainer"]
    assert '"relu": false' in metadata["onnxsal.explainer"]
    assert '"kind": "probability"' in metadata["onnxsal.explainer"]


def test_the_runtime_it_is_for_reaches_the_graph(run: Run) -> None:
    slices = {}
    for runtime in ("native", "web"):
        out = f"{runtime}.onnx"
        assert run("compile", DIGITS, "-m", "gradient", "-o", out, "--runtime", runtime).exit_code == 0
        graph = onnx.load(out).graph
        backwards = {t.name for t in graph.initializer if (onnx.numpy_helper.to_array(t) < 0).all()}
        slices[runtime] = [n for n in graph.node if n.op_type == "Slice" and set(n.input[4:]) & backwards]
    assert slices["native"]  # kernels, turned by half a turn
    assert not slices["web"]


def test_overwriting_when_asked(run: Run, model: Path, folder: Path) -> None:
    (folder / "out.onnx").write_bytes(b"old")
    assert run("compile", model, "-o", "out.onnx", "--overwrite").exit_code == 0
    onnx.checker.check_model(folder / "out.onnx", full_check=True)
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_the_file_has_the_mode_of_any_new_file(run: Run, model: Path, folder: Path) -> None:
    (folder / "plain").write_text("")
    run("compile", model, "-o", "out.onnx")
    assert (folder / "out.onnx").stat().st_mode == (folder / "plain").stat().st_mode


def test_weights_that_a_file_lists_as_inputs_stay_inside(run: Run, folder: Path) -> None:
    proto = classifier()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(proto, folder / "old.onnx")
    assert run("compile", "old.onnx", "-o", "out.onnx").exit_code == 0
    assert [i.name for i in onnx.load("out.onnx").graph.input] == ["image", "target"]
