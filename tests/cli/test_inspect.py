"""`onnxsal inspect`: all that was found, in words a stranger's file cannot bend."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper
from support.detector import detector
from support.small import classifier, without_gap

from onnxsal.methods import methods

Run = Callable[..., Result]

METHODS = set(methods())


def test_every_section_is_shown(run: Run, model: Path) -> None:
    result = run("inspect", model)
    assert result.exit_code == 0, result.exception
    titles = [line for line in result.output.splitlines() if line and not line.startswith(" ")]
    wanted = ["File", "Inputs and outputs", "Image", "Card", "Classes", "Layers", "Methods", "Rectifiers"]
    assert len(titles) == len(wanted)
    assert all(title.startswith(word) for title, word in zip(titles, wanted, strict=True))


def test_what_was_found_is_told(run: Run, model: Path) -> None:
    shown = " ".join(run("inspect", model).output.split())
    assert "input image float32 (N, 3, 32, 32)" in shown
    assert "output logits float32 (N, 4)" in shown
    assert "mean 0.5 metadata onnxsal.*" in shown
    assert "labels 4: ../../escaped, [red]red[/red] :boom:, [31mansi [0m second line, cat" in shown
    assert "* seen same (Identity)" in shown or "* relu relu_node (Relu) (N, 8, 32, 32) 32 x 32" in shown
    assert "guided-backprop, deconvnet, guided-grad-cam 1: relu_node" in shown.replace(
        "guided-grad-cam, guided-backprop, deconvnet", "guided-backprop, deconvnet, guided-grad-cam"
    )


def test_a_guess_is_marked(run: Run, folder: Path) -> None:
    proto = classifier()
    del proto.metadata_props[:]
    onnx.save(proto, folder / "bare.onnx")
    lines = run("inspect", "bare.onnx").output.splitlines()
    assert "GUESSED" in next(line for line in lines if line.split()[:1] == ["mean"])
    assert "GUESSED" not in next(line for line in lines if line.split()[:1] == ["size"])


def test_a_program_gets_all_of_it(run: Run, model: Path) -> None:
    found = json.loads(run("inspect", model, "--json").output)
    assert {v["method"] for v in found["methods"]} == METHODS
    assert [v["method"] for v in found["methods"] if not v["works"]] == ["d-rise"]
    assert found["head"]["classes"] == 4
    assert found["head"]["gap"]
    assert found["default_layer"] in {row["name"] for row in found["layers"]}
    assert found["card"]["values"]["scale"] == pytest.approx(1 / 255)
    assert found["error"] == ""


def test_a_method_that_does_not_work_says_why(run: Run, folder: Path) -> None:
    onnx.save(without_gap(), folder / "no_gap.onnx")
    line = next(line for line in run("inspect", "no_gap.onnx").output.splitlines() if line.split()[:2] == ["cam", "no"])
    assert "grad-cam" in line.lower()


def test_only_the_last_layers_are_shown_unless_all_are_asked_for(run: Run, folder: Path) -> None:
    names = ["relu", *(f"relu{i}" for i in range(29)), "seen"]
    chain = [helper.make_node("Relu", [x], [y]) for x, y in itertools.pairwise(names)]
    onnx.save(classifier(before_pool=chain), folder / "deep.onnx")

    def shown(*arguments: object) -> int:
        lines = run("inspect", "deep.onnx", *arguments).output.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("Layers"))
        return lines.index("", start) - start - 2

    assert shown() == 12
    assert shown("--layers", 3) == 3
    assert shown("--layers", "all") > 30
    assert run("inspect", "deep.onnx", "--layers", "some").exit_code == 2


def test_an_integer_input_says_where_its_gradient_is_taken(run: Run, folder: Path) -> None:
    proto = classifier()
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 3, 32, 32]))
    proto.graph.node[0].input[0] = "as_float"
    proto.graph.node.insert(0, helper.make_node("Cast", ["image"], ["as_float"], "cast", to=TensorProto.FLOAT))
    del proto.metadata_props[:]
    onnx.save(proto, folder / "bytes.onnx")
    shown = " ".join(run("inspect", "bytes.onnx").output.split())
    assert "gradient at as_float" in shown
    assert "integers" in shown


def test_names_from_the_file_stay_on_their_line(run: Run, folder: Path) -> None:
    proto = classifier()
    hostile = "a\nMethods (-m)\n  cam  yes \x1b[2J\u202e[bold]x[/bold]"
    proto.producer_name = hostile
    proto.graph.node[1].name = hostile
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = hostile
    onnx.save(proto, folder / "hostile.onnx")
    result = run("inspect", "hostile.onnx")
    assert result.exit_code == 0, result.exception
    assert all(line.isprintable() for line in result.output.splitlines())
    assert sum(line.startswith("Methods") for line in result.output.splitlines()) == 1
    assert "[bold]x[/bold]" in result.output


def test_operators_without_a_rule_are_named_and_whether_they_are_in_the_way(run: Run, folder: Path) -> None:
    blur = helper.make_node("Blur", ["relu"], ["seen"], "blur", domain="com.acme")
    aside = helper.make_node("Count", ["relu"], ["counted"], "count", domain="com.acme")
    proto = classifier(before_pool=[blur, aside], opsets=[helper.make_opsetid("com.acme", 1)])
    shape = ("N", 8, 30, 30)
    proto.graph.value_info.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("seen", "counted")
    )
    onnx.save(proto, folder / "custom.onnx")
    lines = run("inspect", "custom.onnx").output.splitlines()
    table = lines[lines.index("Operators without a rule") + 1 :][:3]
    assert [line.split() for line in table] == [
        ["operator", "nodes", "on", "the", "path"],
        ["com.acme::Blur", "1:", "blur", "yes"],
        ["com.acme::Count", "1:", "count", "no"],
    ]
    found = json.loads(run("inspect", "custom.onnx", "--json").output)
    assert found["unsupported"][0] == {"operator": "com.acme::Blur", "nodes": ["blur"], "on_path": True}


def test_of_a_detector_it_is_told_which_methods_explain_its_detections(run: Run, folder: Path) -> None:
    onnx.save(detector(), folder / "squares.onnx")
    lines = run("inspect", "squares.onnx").output.splitlines()
    assert "Methods (-m), of a detection (-t box:0, -t all)" in lines
    assert "Classes" not in lines
    found = json.loads(run("inspect", "squares.onnx", "--json").output)
    # There is no ReLU in it, and no class output.
    refused = {"guided-backprop", "deconvnet", "guided-grad-cam", "cam"}
    assert {v["method"] for v in found["methods"] if not v["works"]} == refused
