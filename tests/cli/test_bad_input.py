"""Every bad input: one clear line, exit code 2, nothing written."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support.small import classifier, save_photo, without_gap

Refused = Callable[..., str]

ZOO = Path(os.environ.get("ONNXSAL_ZOO", "no zoo"))


# ----- The model -----


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"This is a text file about models.\n", "not"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (bytes(4096), "not"),
        (np.random.default_rng(0).bytes(4096), "not"),
    ],
    ids=["empty", "text", "zip", "png", "lfs", "zeros", "noise"],
)
@pytest.mark.parametrize("command", ["explain", "inspect", "compile"])
def test_a_file_that_is_no_onnx_is_refused(
    refused: Refused, folder: Path, photo: Path, content: bytes, told: str, command: str
) -> None:
    path = folder / "model.onnx"
    path.write_bytes(content)
    rest = {"explain": [photo], "inspect": [], "compile": ["-o", "out.onnx"]}[command]
    line = refused(command, path, *rest)
    assert "model.onnx" in line
    assert told in line


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_refused(refused: Refused, model: Path, photo: Path, part: float) -> None:
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * part)])
    assert "small.onnx" in refused("explain", model, photo)


@pytest.mark.parametrize(("right", "wrong"), [(b"matrix", b"matriX"), (b"image", b"im\xffge")])
def test_a_damaged_model_is_refused(refused: Refused, model: Path, photo: Path, right: bytes, wrong: bytes) -> None:
    whole = model.read_bytes()
    assert whole.count(right) > 1
    model.write_bytes(whole.replace(right, wrong, 1))
    assert "small.onnx is not valid ONNX" in refused("explain", model, photo)


def test_a_missing_model_is_refused(refused: Refused, photo: Path) -> None:
    assert "there is no file nowhere.onnx" in refused("explain", "nowhere.onnx", photo)


def test_a_folder_in_place_of_a_model_is_refused(refused: Refused, folder: Path, photo: Path) -> None:
    assert "is a folder" in refused("explain", folder, photo)


def test_missing_external_weights_are_named(refused: Refused, folder: Path, photo: Path) -> None:
    path = folder / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").unlink()
    assert "'weights.bin', which is missing" in refused("explain", path, photo)


def test_truncated_external_weights_are_refused(refused: Refused, folder: Path, photo: Path) -> None:
    path = folder / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").write_bytes(b"short")
    assert "weights.bin" in refused("explain", path, photo)


def test_external_weights_outside_the_folder_are_not_followed(refused: Refused, folder: Path, photo: Path) -> None:
    (folder / "inner").mkdir()
    path = folder / "inner" / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    (folder / "inner" / "weights.bin").rename(folder / "weights.bin")
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = "../weights.bin"
    path.write_bytes(proto.SerializeToString())
    assert "outside its own folder" in refused("explain", path, photo)


def test_a_model_without_an_image_input_is_refused(refused: Refused, folder: Path, photo: Path) -> None:
    path = folder / "table.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float[N,10] x) => (float[N,10] y) { y = Relu(x) }'
        ),
        path,
    )
    for arguments in (["explain", path, photo], ["inspect", path], ["compile", path, "-o", "out.onnx"]):
        assert "no image input" in refused(*arguments)


def _tree(inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    return helper.make_node(
        "TreeEnsembleRegressor",
        inputs,
        outputs,
        "forest",
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )


def test_a_tree_ensemble_is_refused_a_gradient(refused: Refused, folder: Path, photo: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), _tree(["flat"], ["y"])],
        "trees",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "trees.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    for method in ("gradient", "grad-x-input"):
        assert "TreeEnsembleRegressor" in refused("explain", path, photo, "-m", method)


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs ONNXSAL_ZOO")
def test_the_tree_ensemble_of_the_zoo_is_refused(refused: Refused, photo: Path) -> None:
    refused("explain", ZOO / "models" / "coffee_skl2onnx.onnx", photo, "-m", "gradient")


def test_an_operator_of_another_domain_on_the_path_is_named(refused: Refused, folder: Path, photo: Path) -> None:
    custom = helper.make_node("Frobnicate", ["relu"], ["seen"], "frob", domain="com.example")
    path = folder / "custom.onnx"
    onnx.save(classifier(before_pool=[custom], opsets=[helper.make_opsetid("com.example", 1)]), path)
    line = refused("explain", path, photo, "-m", "gradient")
    assert "com.example::Frobnicate" in line
    assert "'frob'" in line


# ----- The photo -----


def test_a_missing_photo_is_refused(refused: Refused, model: Path) -> None:
    assert "no such image file" in refused("explain", model, "nowhere.jpg")


@pytest.mark.parametrize(
    "content", [b"", b"no image at all", b"\xff\xd8\xff\xe0" + bytes(64), np.random.default_rng(0).bytes(512)]
)
def test_an_undecodable_photo_is_refused(refused: Refused, model: Path, folder: Path, content: bytes) -> None:
    (folder / "broken.jpg").write_bytes(content)
    assert "broken.jpg" in refused("explain", model, folder / "broken.jpg")


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_truncated_photo_is_refused(refused: Refused, model: Path, folder: Path, kind: str, part: float) -> None:
    path = save_photo(folder / f"cut.{kind}", (120, 90))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert f"cut.{kind}" in refused("explain", model, path)


def test_a_decompression_bomb_is_refused(refused: Refused, model: Path, folder: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert "decompression bomb" in refused("explain", model, folder / "bomb.png")


def test_one_broken_photo_among_several_stops_all_before_the_first(
    refused: Refused, model: Path, photo: Path, folder: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"no image")
    assert "broken.jpg" in refused("explain", model, photo, folder / "broken.jpg", "--batch-size", 1)


# ----- What is asked of it -----


def test_an_unknown_method_is_refused_with_the_nearest(refused: Refused, model: Path, photo: Path) -> None:
    line = refused("explain", model, photo, "-m", "gradcam")
    assert "no method 'gradcam'" in line
    assert "'grad-cam'" in line


def test_an_unknown_layer_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    line = refused("explain", model, photo, "-l", "layer99")
    assert "'layer99'" in line
    line = refused("compile", model, "-l", "layer99", "-o", "out.onnx")
    assert "'layer99'" in line


def test_a_layer_for_a_method_without_one_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    assert "grad-cam" in refused("explain", model, photo, "-m", "gradient", "-m", "deconvnet", "-l", "relu")


def test_an_unknown_label_is_refused_with_the_nearest(refused: Refused, model: Path, photo: Path) -> None:
    line = refused("explain", model, photo, "-t", "caat")
    assert "no class is labelled 'caat'" in line
    assert "3 'cat'" in line


@pytest.mark.parametrize(
    "target", ["4", "-1", "prob:17", "0-9", "top:5", "top:0", "layer:relu", "layer:relu,channel=8"]
)
def test_a_target_that_the_model_does_not_have_is_refused(
    refused: Refused, model: Path, photo: Path, target: str
) -> None:
    refused("explain", model, photo, f"--target={target}")


def test_an_unknown_setting_is_refused_with_those_there_are(refused: Refused, model: Path, photo: Path) -> None:
    assert "layer, relu" in refused("explain", model, photo, "--set", "color=red")
    assert "'color'" in refused("explain", model, photo, "-m", "gradient", "-m", "cam", "--set", "color=red")


def test_a_setting_that_does_not_fit_is_refused_before_the_methods_ahead_of_it_run(
    refused: Refused, model: Path, photo: Path
) -> None:
    assert "rule='wrong'" in refused(
        "explain", model, photo, "-m", "gradient", "-m", "grad-x-input", "--set", "rule=wrong"
    )


@pytest.mark.parametrize("text", ["rule", "=guided", "rule=", "rule=guided rule=gradient"])
def test_a_setting_that_cannot_be_read_is_refused(refused: Refused, model: Path, photo: Path, text: str) -> None:
    pairs = [a for pair in text.split() for a in ("--set", pair)]
    refused("explain", model, photo, "-m", "grad-x-input", *pairs)


def test_an_unknown_provider_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    assert "'abacus'" in refused("explain", model, photo, "--provider", "abacus")


def test_an_unknown_format_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    assert "gif" in refused("explain", model, photo, "--format", "gif")


def test_an_unknown_command_is_refused(refused: Refused) -> None:
    assert "'explian'" in refused("explian")


def test_a_method_that_does_not_fit_the_model_is_refused_before_others_write(
    refused: Refused, folder: Path, photo: Path
) -> None:
    path = folder / "no_gap.onnx"
    onnx.save(without_gap(), path)
    assert "grad-cam" in refused("explain", path, photo, "-m", "gradient", "-m", "cam").lower()


@pytest.mark.parametrize(
    "text",
    ["not toml [", "meen = [0.5]", "mean = 'grey'", "layout = 'NHWC'", "input = 'other'", "labels_file = 'none.txt'"],
)
def test_a_card_that_cannot_be_is_refused(refused: Refused, model: Path, photo: Path, folder: Path, text: str) -> None:
    (folder / "card.toml").write_text(text)
    assert "card.toml" in refused("explain", model, photo, "--card", folder / "card.toml")


def test_a_missing_card_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    assert "nowhere.toml" in refused("explain", model, photo, "--card", "nowhere.toml")


# ----- Other inputs -----


@pytest.fixture
def two_inputs(folder: Path) -> Path:
    """A model that takes a question of five numbers beside the image."""
    proto = classifier(("no", "yes"))
    graph = proto.graph
    graph.input.append(helper.make_tensor_value_info("question", TensorProto.FLOAT, ["N", 5]))
    graph.initializer.append(numpy_helper.from_array(np.ones((5, 2), np.float32), "asked"))
    graph.node.append(helper.make_node("MatMul", ["question", "asked"], ["opinion"]))
    graph.node.append(helper.make_node("Add", ["logits", "opinion"], ["answer"]))
    graph.output[0].name = "answer"
    path = folder / "vqa.onnx"
    onnx.save(proto, path)
    return path


def test_a_missing_input_is_named(refused: Refused, two_inputs: Path, photo: Path) -> None:
    line = refused("explain", two_inputs, photo)
    assert "'question'" in line
    assert "--input" in line


def test_an_input_that_does_not_fit_is_refused(refused: Refused, two_inputs: Path, photo: Path, folder: Path) -> None:
    np.save(folder / "four.npy", np.zeros(4, np.float32))
    np.save(folder / "pickled.npy", np.array([object()]), allow_pickle=True)
    (folder / "text.npy").write_text("no array")
    for name in ("four.npy", "pickled.npy", "text.npy", "missing.npy"):
        assert "question" in refused("explain", two_inputs, photo, "--input", f"question={folder / name}")
    assert "'answer'" in refused("explain", two_inputs, photo, "--input", f"answer={folder / 'four.npy'}")


# ----- Where it goes -----


def test_a_folder_that_is_a_file_is_refused(refused: Refused, model: Path, photo: Path, folder: Path) -> None:
    (folder / "taken").write_text("a file")
    for output in (folder / "taken", folder / "taken" / "deeper"):
        assert "cannot write to the folder" in refused("explain", model, photo, "-o", output)
        assert "cannot write to the folder" in refused("compile", model, "-o", output / "out.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_is_refused(refused: Refused, model: Path, photo: Path, folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    assert "no permission" in refused("explain", model, photo, "-o", folder / "locked")
    assert "no permission" in refused("explain", model, photo, "-o", folder / "locked" / "deeper")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_folder_that_the_system_cannot_make_is_refused(refused: Refused, model: Path, photo: Path) -> None:
    assert "cannot write to the folder" in refused("explain", model, photo, "-o", "/proc/onnxsal")


@pytest.mark.parametrize("name", ["photo_grad-cam.png", "photo_gradient.npz", "photo_panel.png"])
def test_a_file_that_is_there_is_not_overwritten(
    refused: Refused, model: Path, photo: Path, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"mine")
    arguments = ["-m", "gradient", "-m", "grad-cam", "--format", "png", "--format", "npz"]
    line = refused("explain", model, photo, *arguments)
    assert name in line
    assert "--overwrite" in line


def test_compile_does_not_overwrite_unasked(refused: Refused, model: Path, folder: Path) -> None:
    (folder / "out.onnx").write_bytes(b"mine")
    assert "--overwrite" in refused("compile", model, "-o", folder / "out.onnx")


def test_compile_never_replaces_the_model_itself(refused: Refused, model: Path) -> None:
    assert "the model itself" in refused("compile", model, "-o", model, "--overwrite")


def test_a_name_that_no_file_can_have_is_refused(refused: Refused, model: Path, folder: Path) -> None:
    photo = save_photo(folder / f"{'long' * 61}.png")
    assert "cannot write" in refused("explain", model, photo)


def test_an_error_about_a_hostile_name_stays_one_harmless_line(refused: Refused, folder: Path, photo: Path) -> None:
    proto = classifier()
    proto.graph.node[0].name = "conv\n\x1b[31mfake: all is well"
    proto.graph.node[0].op_type = "Conv\x1b[2J"
    path = folder / "hostile.onnx"
    onnx.save(proto, path)
    assert "\x1b" not in refused("explain", path, photo)


def test_a_photo_of_floating_point_pixels_is_refused(refused: Refused, model: Path, folder: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "float.tiff")
    assert "float.tiff" in refused("explain", model, folder / "float.tiff")
