"""`onnxsal explain`: what is written, and what is said."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support.small import HOSTILE, classifier, save_photo, without_gap

import onnxsal
from onnxsal.explanation.asked import BATCH_SIZE
from onnxsal.explanation.explanation import FORMATS

Run = Callable[..., Result]

ZOO = Path(os.environ.get("ONNXSAL_ZOO", "no zoo"))

METHODS = ("gradient", "grad-x-input", "guided-backprop", "deconvnet", "cam", "grad-cam", "guided-grad-cam")


def ok(result: Result) -> list[str]:
    """Return the lines of a run that went well."""
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout.splitlines()


def written(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_photo_gives_a_picture_of_its_size_and_a_line(run: Run, model: Path, photo: Path, folder: Path) -> None:
    (line,) = ok(run("explain", model, photo))
    assert line.startswith(f"{photo}: ")
    assert "grad-cam of " in line
    assert "score " in line
    assert line.endswith(" -> photo_grad-cam.png")
    with Image.open(folder / "photo_grad-cam.png") as picture:
        assert picture.size == (40, 30)


def test_nothing_is_said_on_stderr_when_all_is_known(run: Run, model: Path, photo: Path) -> None:
    assert run("explain", model, photo).stderr == ""


def test_the_line_has_prediction_target_score_and_file(run: Run, model: Path, photo: Path, folder: Path) -> None:
    (line,) = ok(run("explain", model, photo, "-t", "cat", "-m", "gradient", "-o", "out", "--format", "json"))
    facts = json.loads((folder / "out" / "photo_gradient_cat.json").read_text())
    best = facts["predictions"][0]
    assert f"{best['label']} {best['probability']:.2f}; gradient of 3 cat, score {facts['score']:.4g}" in line


def test_several_methods_give_a_panel_as_well(run: Run, model: Path, photo: Path, folder: Path) -> None:
    options = [o for m in METHODS for o in ("-m", m)]
    lines = ok(run("explain", model, photo, "-o", "out", *options))
    assert written(folder / "out") == {f"photo_{m}.png" for m in METHODS} | {"photo_panel.png"}
    assert len(lines) == len(METHODS) + 1
    assert lines[-1] == f"{photo}: all 7 methods -> {Path('out/photo_panel.png')}"


def test_a_method_asked_for_twice_is_explained_once(run: Run, model: Path, photo: Path, folder: Path) -> None:
    assert len(ok(run("explain", model, photo, "-o", "out", "-m", "cam", "-m", "cam"))) == 1
    assert written(folder / "out") == {"photo_cam.png"}


def test_every_format_is_written(run: Run, model: Path, photo: Path, folder: Path) -> None:
    ok(run("explain", model, photo, "-o", "out", *(o for f in FORMATS for o in ("--format", f))))
    assert written(folder / "out") == {f"photo_grad-cam.{f}" for f in FORMATS}
    with np.load(folder / "out" / "photo_grad-cam.npz") as arrays:
        assert arrays["heatmap"].shape == (30, 40)
        facts = json.loads(str(arrays["facts"]))
    saved = json.loads((folder / "out" / "photo_grad-cam.json").read_text())
    assert facts == {k: v for k, v in saved.items() if k != "heatmap"}


def test_without_pictures_there_is_no_panel(run: Run, model: Path, photo: Path, folder: Path) -> None:
    ok(run("explain", model, photo, "-o", "out", "-m", "cam", "-m", "gradient", "--format", "npz"))
    assert written(folder / "out") == {"photo_cam.npz", "photo_gradient.npz"}


def test_the_best_classes_are_explained_one_by_one(run: Run, model: Path, photo: Path, folder: Path) -> None:
    lines = ok(run("explain", model, photo, "-o", "out", "-t", "top:3", "-m", "cam", "-m", "gradient", "--json"))
    facts = [json.loads(line) for line in lines]
    assert [f["target"]["index"] for f in facts[::2]] == [p["index"] for p in facts[0]["predictions"][:3]]
    assert written(folder / "out") == {
        f"photo_{w}_top-{r}.png" for w in ("cam", "gradient", "panel") for r in (1, 2, 3)
    }


def test_json_lines_say_where_files_are(run: Run, model: Path, photo: Path) -> None:
    lines = ok(run("explain", model, photo, "-o", "out", "-m", "cam", "-m", "gradient", "--json", "--format", "png"))
    facts = [json.loads(line) for line in lines]
    assert [f["method"] for f in facts] == ["cam", "gradient"]
    for fact in facts:
        assert fact["photo"] == str(photo)
        assert all(Path(p).is_file() for p in [*fact["files"], fact["panel"]])
        assert {"score", "target", "settings", "predictions", "provenance"} <= set(fact)


def test_photos_of_one_name_do_not_overwrite_each_other(run: Run, model: Path, folder: Path) -> None:
    photos = []
    for i in range(3):
        (folder / str(i)).mkdir()
        photos.append(save_photo(folder / str(i) / "cat.png", seed=i))
    lines = ok(run("explain", model, *photos, "-o", "out"))
    assert written(folder / "out") == {"cat_grad-cam.png", "cat-2_grad-cam.png", "cat-3_grad-cam.png"}
    assert [line.split(":")[0] for line in lines] == [str(p) for p in photos]
    pictures = {(folder / "out" / name).read_bytes() for name in written(folder / "out")}
    assert len(pictures) == 3


@pytest.mark.parametrize(
    ("method", "shape"),
    [("grad-cam", ("N", 3, 32, 32)), ("grad-cam", (1, 3, 32, 32)), ("gradient", (2, 3, 32, 32))],
)
def test_batches_change_nothing(run: Run, folder: Path, method: str, shape: tuple[int | str, ...]) -> None:
    onnx.save(classifier(image_shape=shape), folder / "model.onnx")
    photos = [save_photo(folder / f"p{i}.png", (30 + i, 40), i) for i in range(5)]
    options = ["-m", method, "--json", "--format", "npz"]
    scores = []
    maps = []
    for size in (1, 2, 8):
        lines = ok(run("explain", "model.onnx", *photos, *options, "-o", f"out{size}", "--batch-size", size))
        scores.append([json.loads(line)["score"] for line in lines])
        maps.append([np.load(json.loads(line)["files"][0])["heatmap"] for line in lines])
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-5)
    for alone, pairs, together in zip(*maps, strict=True):
        np.testing.assert_allclose(pairs, alone, atol=1e-4)
        np.testing.assert_allclose(together, alone, atol=1e-4)


def test_photos_of_different_sizes_share_a_call_where_the_model_takes_any(run: Run, folder: Path) -> None:
    onnx.save(classifier(image_shape=("N", 3, "H", "W")), folder / "model.onnx")
    (folder / "card.toml").write_text('resize = "none"')
    photos = [save_photo(folder / f"p{i}.png", (32 + 8 * i, 40), i) for i in range(3)]
    assert len(ok(run("explain", "model.onnx", *photos, "-o", "out", "--card", "card.toml"))) == 3


def test_a_setting_goes_to_the_methods_that_have_it(run: Run, model: Path, photo: Path) -> None:
    arguments = [
        "-m",
        "grad-cam",
        "-m",
        "grad-x-input",
        "-m",
        "gradient",
        "--set",
        "rule=guided",
        "--set",
        "relu=false",
    ]
    facts = [json.loads(line) for line in ok(run("explain", model, photo, *arguments, "-l", "relu", "--json"))]
    settings = {f["method"]: f["settings"] for f in facts}
    assert settings["grad-cam"] == {"layer": "relu", "relu": False}
    assert settings["grad-x-input"] == {"rule": "guided"}
    assert settings["gradient"] == {"absolute": False}


def test_overwriting_when_asked(run: Run, model: Path, photo: Path, folder: Path) -> None:
    (folder / "photo_grad-cam.png").write_bytes(b"old")
    ok(run("explain", model, photo, "--overwrite"))
    with Image.open(folder / "photo_grad-cam.png") as picture:
        assert picture.format == "PNG"


def test_a_folder_is_made_where_there_is_none(run: Run, model: Path, photo: Path, folder: Path) -> None:
    ok(run("explain", model, photo, "-o", folder / "a" / "b" / "c"))
    assert (folder / "a" / "b" / "c" / "photo_grad-cam.png").is_file()


def test_a_guess_is_said_once_on_stderr(run: Run, folder: Path) -> None:
    proto = classifier()
    del proto.metadata_props[:]
    onnx.save(proto, folder / "bare.onnx")
    photos = [save_photo(folder / f"p{i}.png", seed=i) for i in range(3)]
    result = run("explain", "bare.onnx", *photos, "--batch-size", 1, "-o", "out")
    assert len(ok(result)) == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("guessed: ")
    assert "mean [" in line
    assert "--card" in line


def test_labels_and_layers_neither_escape_the_folder_nor_the_line(run: Run, folder: Path, photo: Path) -> None:
    proto = classifier()
    layer = "../../up/[red]relu[/red]\x1b[31m"
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = layer
    onnx.save(proto, folder / "hostile.onnx")
    before = set(folder.parent.glob("*"))
    targets = [*map(str, range(len(HOSTILE))), HOSTILE[0], HOSTILE[1], f"layer:{layer},channel=2"]
    lines = [ok(run("explain", "hostile.onnx", photo, "-t", t, "-o", "out", "--overwrite"))[0] for t in targets]
    assert all(line.isprintable() for line in lines)
    assert "[red]red[/red] :boom:" in lines[1]
    assert set(folder.parent.glob("*")) == before
    assert written(folder) == {"hostile.onnx", "photo.png", "out"}
    assert all(name.isascii() and name.isprintable() for name in written(folder / "out"))


def test_json_lines_are_harmless_too(run: Run, model: Path, photo: Path) -> None:
    (line,) = ok(run("explain", model, photo, "-t", "2", "--json"))
    assert line.isprintable()
    assert line.isascii()


def test_other_inputs_are_given_by_name(run: Run, folder: Path) -> None:
    proto = classifier(("no", "yes"))
    proto.graph.input.append(helper.make_tensor_value_info("question", TensorProto.FLOAT, ["N", 2]))
    proto.graph.initializer.append(numpy_helper.from_array(100 * np.eye(2, dtype=np.float32), "asked"))
    proto.graph.node.append(helper.make_node("MatMul", ["question", "asked"], ["opinion"]))
    proto.graph.node.append(helper.make_node("Add", ["logits", "opinion"], ["answer"]))
    proto.graph.output[0].name = "answer"
    onnx.save(proto, folder / "vqa.onnx")
    photos = [save_photo(folder / f"p{i}.png", seed=i) for i in range(3)]
    np.save(folder / "all.npy", np.array([[0, 1]], np.float32))
    np.save(folder / "each.npy", np.array([[1, 0], [0, 1], [1, 0]], np.float32))

    def answers(file: str) -> list[str]:
        arguments = ["--input", f"question={file}.npy", "-o", file, "--batch-size", 2, "--json"]
        return [json.loads(line)["target"]["label"] for line in ok(run("explain", "vqa.onnx", *photos, *arguments))]

    assert answers("all") == ["yes", "yes", "yes"]
    assert answers("each") == ["no", "yes", "no"]


def test_progress_is_shown_on_a_terminal_only(
    run: Run, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [save_photo(folder / f"p{i}.png", seed=i) for i in range(3)]
    assert run("explain", model, *photos, "-o", "a").stderr == ""
    monkeypatch.setattr("onnxsal.cli.progress.on_terminal", lambda: True)
    result = run("explain", model, *photos, "-o", "b", "--batch-size", 1)
    assert "explained: 2 of 3" in result.stderr
    assert run("explain", model, photos[0], "-o", "c").stderr == ""


def test_the_help_says_what_the_engine_has() -> None:
    from onnxsal.cli.explain import command

    options = {p.name: p for p in command.params}
    assert f"by default {BATCH_SIZE};" in str(options["batch_size"].help)  # type: ignore[attr-defined]
    assert tuple(options["formats"].type.choices) == FORMATS  # type: ignore[attr-defined]


SECOND_RUN = """
import sys, time
from onnxsal.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
print(time.process_time(), [m for m in ("onnx", "onnx_ir", "scipy", "rich") if m in sys.modules])
"""


def in_a_process(*arguments: object) -> tuple[float, str]:
    """Explain in a process of its own; return its processor time, and which heavy modules it imported."""
    # The package may be installed, or stand where the tests were started.
    environment = os.environ | {"PYTHONPATH": str(Path(onnxsal.__file__).parents[1])}
    command = [sys.executable, "-c", SECOND_RUN, "explain", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, _, modules = done.stdout.splitlines()[-1].partition(" ")
    return float(seconds), modules


def test_a_repeated_command_builds_no_graph(model: Path, photo: Path, folder: Path) -> None:
    modules = [in_a_process(model, photo, "-o", out)[1] for out in ("first", "second")]
    assert "onnx_ir" in modules[0]
    assert modules[1] == "[]"
    first, second = (folder / out / "photo_grad-cam.png" for out in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_nor_does_one_with_many_photos_and_methods_on_a_model_made_for_one(folder: Path) -> None:
    onnx.save(classifier(image_shape=(1, 3, 32, 32)), folder / "model.onnx")
    photos = [save_photo(folder / f"p{i}.png", seed=i) for i in range(3)]
    options = ["-m", "grad-cam", "-m", "gradient", "-t", "top:2"]
    modules = [in_a_process("model.onnx", *photos, *options, "-o", out)[1] for out in ("first", "second")]
    assert "onnx_ir" in modules[0]
    assert modules[1] == "[]"


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs ONNXSAL_ZOO")
def test_squeezenet_is_explained_again_within_a_second(folder: Path) -> None:
    """Processor time of all threads, which other work on the machine stretches less than the clock."""
    model, photo = ZOO / "models" / "squeezenet1.1_caffe2_fp32.onnx", ZOO / "images" / "burn_cat.jpg"
    in_a_process(model, photo)
    runs = [in_a_process(model, photo, "--overwrite") for _ in range(3)]
    assert {modules for _, modules in runs} == {"[]"}
    assert min(seconds for seconds, _ in runs) < 1.5


def test_like_takes_a_librarys_conventions_and_set_wins(run: Run, model: Path, photo: Path) -> None:
    quick = ["--set", "samples=2", "-t", "0", "--json"]
    (line,) = ok(run("explain", model, photo, "-m", "smoothgrad", "--like", "captum", *quick))
    facts = json.loads(line)
    assert facts["provenance"]["like"] == "captum"
    assert {k: facts["settings"][k] for k in ("base", "noise", "scale", "samples")} == {
        "base": "gradient,absolute=true",
        "noise": 1.0,
        "scale": "unit",
        "samples": 2,
    }
    result = run("explain", model, photo, "-m", "rise", "--like", "captum")
    assert result.exit_code == 2
    assert "like=captum has no rise; it has gradient, " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_what_a_method_refuses_is_known_before_loops_are_run(
    run: Run, photo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(without_gap(), folder / "no_cam.onnx")
    monkeypatch.setattr("onnxsal.methods.masking.RISE.attribute", lambda *_: pytest.fail("rise was run first"))
    result = run("explain", "no_cam.onnx", photo, "-m", "rise", "-m", "cam")
    assert result.exit_code == 2
    assert "cam needs a head" in result.stderr


@pytest.mark.parametrize("written", [True, False])
def test_an_interruption_says_where_the_run_goes_on_from(
    run: Run, model: Path, photo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    def interrupted(*_: object) -> None:
        if written:
            (folder / "run.npz").write_bytes(b"some")
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxsal.methods.masking.RISE.attribute", interrupted)
    result = run("explain", model, photo, "-m", "rise", "--checkpoint", "run.npz")
    assert result.exit_code == 130
    assert ("interrupted: the same command goes on from run.npz" in result.stderr) == written
