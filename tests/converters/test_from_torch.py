"""The torch converter, where torch is installed."""

import importlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the converter needs torch, which the tests do without")

import onnx  # noqa: E402  torch first: without it there is nothing to test
from click.testing import CliRunner, Result  # noqa: E402

from onnxsal.model.card import Card, card_from_metadata  # noqa: E402

CONVERTERS = Path(__file__).parents[2] / "converters"

MODELS = '''
import torch
from torch import nn


class Small(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Drifting(Small):
    """Exports as its first call behaves, and computes something else on every later one."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + 0.01 * self.calls


class WrongGradient(Small):
    """Hides its input from autograd, as `detach` does; the exported graph does not."""

    def forward(self, x):
        return super().forward(x) + 3 * super().forward(x.detach())


class Named(Small):
    def forward(self, x):
        return {"classes": super().forward(x), "features": self.body(x)}


class Listing(Small):
    def forward(self, x):
        return [{"boxes": x}]


class FixedBatch(Small):
    def forward(self, x):
        return super().forward(x).reshape(2, 4)


class TracedBatch(Small):
    """Free of its batch size in torch; `len` makes a constant of it when traced."""

    def forward(self, x):
        return super().forward(x).reshape(len(x), 4)


instance = Small()
number = 3


def not_a_module():
    return 3
'''


@pytest.fixture(scope="module")
def converter():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CONVERTERS)
        yield importlib.import_module("from_torch")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "little_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def call(converter, folder):
    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(converter.main, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


SMALL = ("little_models:Small", "--size", "24", "32", "-o", "small.onnx")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "onnx" in path.name)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_one_file_with_its_card_and_a_free_batch_comes_out(call, folder, exporter):
    result = call(
        *SMALL, "--exporter", exporter, "--mean", "0.5", "--mean", "0.4", "--mean", "0.3", "--task", "classification"
    )

    assert result.exit_code == 0, result.output
    assert "random weights" in result.output
    assert "outputs: largest difference" in result.output
    assert "input gradient: relative error" in result.output
    assert left(folder) == ["small.onnx"]
    model = onnx.load("small.onnx")
    card = card_from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert card == Card(
        task="classification",
        size=(24, 32),
        mean=(0.5, 0.4, 0.3),
        channels="RGB",
        layout="NCHW",
        input=model.graph.input[0].name,
        output=model.graph.output[0].name,
    )
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_the_file_tells_nothing_of_the_computer_it_was_made_on(call, folder):
    call(*SMALL)
    assert str(folder).encode() not in (folder / "small.onnx").read_bytes()


def test_an_instance_serves_as_well_as_a_class(call, folder):
    assert call("little_models:instance", "--size", "16", "16", "-o", "it.onnx").exit_code == 0


def test_a_dictionary_of_outputs_keeps_its_names(call, folder):
    assert call("little_models:Named", "--size", "16", "16", "-o", "named.onnx").exit_code == 0
    assert [output.name for output in onnx.load("named.onnx").graph.output] == ["classes", "features"]


def test_a_fixed_batch_stays_fixed(call, folder):
    assert call("little_models:FixedBatch", "--size", "16", "16", "--batch", "2", "-o", "two.onnx").exit_code == 0
    assert onnx.load("two.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_weights_of_a_file_are_the_ones_exported(call, converter, folder):
    module = converter.call_builder("little_models", "Small")
    state = {f"module.{name}": value + 0.5 for name, value in module.state_dict().items()}
    torch.save({"state_dict": state}, "best.pth")

    result = call(*SMALL, "--weights", "best.pth")

    assert result.exit_code == 0, result.output
    assert "best.pth weights" in result.output
    expected = state["module.head.bias"].numpy()
    initializers = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load("small.onnx").graph.initializer]
    assert any(value.shape == expected.shape and np.allclose(value, expected) for value in initializers)


def test_a_module_that_computes_something_else_leaves_no_file(call, folder):
    result = call("little_models:Drifting", "--size", "16", "16", "-o", "drifting.onnx", "--exporter", "torchscript")
    assert result.exit_code == 1
    assert "error: outputs: the ONNX file is" in result.output
    assert left(folder) == []


def test_a_gradient_that_differs_leaves_no_file(call, folder):
    result = call("little_models:WrongGradient", "--size", "16", "16", "-o", "wrong.onnx", "--exporter", "torchscript")
    assert result.exit_code == 1
    assert "error: input gradient: the ONNX file is" in result.output
    assert left(folder) == []


def test_an_overwritten_file_stays_as_it_was_when_the_models_disagree(call, folder):
    (folder / "old.onnx").write_text("precious")
    call("little_models:Drifting", "--size", "16", "16", "-o", "old.onnx", "--overwrite", "--exporter", "torchscript")
    assert (folder / "old.onnx").read_text() == "precious"
    assert left(folder) == ["old.onnx"]


def test_a_file_is_replaced_when_asked(call, folder):
    (folder / "small.onnx").write_text("old")
    assert call(*SMALL, "--overwrite").exit_code == 0
    onnx.checker.check_model("small.onnx")


def test_a_batch_the_exporter_took_for_a_constant_leaves_no_file(call, folder):
    result = call("little_models:TracedBatch", "--size", "16", "16", "-o", "two.onnx", "--exporter", "torchscript")
    assert result.exit_code == 1
    assert "does not run on an input (3, 3, 16, 16)" in result.output
    assert "--batch 1" in result.output
    assert left(folder) == []


BAD = [
    (("nothing", "-o", "x.onnx"), "neither 'torchvision:NAME' nor"),
    (("little_models:Smal", "-o", "x.onnx"), "has no 'Smal'"),
    (("no_such_package:Model", "-o", "x.onnx"), "cannot import no_such_package"),
    (("little_models:not_a_module", "-o", "x.onnx"), "gives a int, not a torch.nn.Module"),
    (("little_models:number", "-o", "x.onnx"), "gives a int, not a torch.nn.Module"),
    (("little_models:Listing", "-o", "x.onnx"), "the module returns dict, not tensors"),
    (("little_models:FixedBatch", "-o", "x.onnx"), "see --size, --batch"),
    ((*SMALL, "--size", "1", "1"), "does not run on an input"),
    ((*SMALL, "--channels", "GRAY"), "does not run on an input"),
    ((*SMALL, "--mean", "0.5", "--mean", "0.5"), "mean = (0.5, 0.5) is not one number, or one per channel"),
    ((*SMALL, *["--std", "0.5"] * 4), "--std was given 4 times; the image has 3 channels"),
    ((*SMALL, "--labels", "missing.txt"), "cannot read missing.txt"),
    ((*SMALL, "--weights", "missing.pth"), "no weights file missing.pth"),
    ((*SMALL, "--weights", "broken.pth"), "cannot read weights from broken.pth"),
    ((*SMALL, "--weights", "DEFAULT"), "name no .pth, .pt or .safetensors file"),
    ((*SMALL, "-o", "missing/small.onnx"), "cannot write into missing"),
    ((*SMALL, "-o", "little_models.py"), "little_models.py exists"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_clear_line_and_no_file(call, folder, arguments, message):
    (folder / "broken.pth").write_bytes(b"not a checkpoint")
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].startswith("error: ")
    assert message in result.output.splitlines()[-1]
    assert left(folder) == []


def test_torchvision_weights_bring_their_card(converter):
    pytest.importorskip("torchvision", reason="the card of torchvision's weights needs torchvision")
    from torchvision.models import ResNet50_Weights

    card = converter.card_of_weights(ResNet50_Weights.IMAGENET1K_V2)
    assert (card.resize, card.resize_to, card.crop, card.size) == ("shortest_edge", 232, "center", (224, 224))
    assert card.interpolation == "bilinear"
    assert card.mean == (0.485, 0.456, 0.406)
    assert card.labels[:2] == ("tench", "goldfish")


def test_an_unknown_torchvision_name_lists_its_neighbours(call, folder):
    pytest.importorskip("torchvision", reason="torchvision's list of models needs torchvision")
    result = call("torchvision:resnet51", "-o", "x.onnx")
    assert result.exit_code == 2
    assert "resnet50" in result.output
