# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.6", "torchvision", "onnxscript", "safetensors", "onnxsal[cpu]"]
#
# [tool.uv.sources]
# onnxsal = { path = ".." }
# ///
"""Turn a torch module into one ONNX file that carries its card, and prove that both agree.

    uv run converters/from_torch.py torchvision:resnet50 --weights DEFAULT -o resnet50.onnx
    uv run converters/from_torch.py mypackage.models:build --weights best.pth --size 96 -o mine.onnx

The file is kept only if its outputs are torch's, and onnxsal's gradient of it torch.autograd's.
"""

import copy
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxsal.autodiff import vjp
from onnxsal.errors import CardError, ModelError, OnnxsalError, OutputError

OPSETS = {"dynamo": 20, "torchscript": 17}
TOLERANCE = 1e-4
INPUT = "image"


class DisagreementError(OnnxsalError):
    """Raised when the file does not compute what the module computes; the file is removed."""


@dataclass(frozen=True)
class Source:
    """A module ready to export, and what its weights say about photos.

    Attributes:
        module: In evaluation mode, on the CPU.
        card: Fields known from the weights; empty for random ones.
        weights: In words, for the user.
    """

    module: nn.Module
    card: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "random"


@dataclass(frozen=True)
class Agreement:
    """How far the ONNX file is from the module it came from, on one random sample.

    Attributes:
        output: The largest difference over all outputs, relative to that output's largest value.
        output_absolute: The largest difference itself.
        gradient: Relative L2 error of the gradient with respect to the image, against torch.
        torch_gradient: The same error for torch's own float32, which shows how near to a kink
            the sample lies.
        precision: What torch's reference was computed in: `float64` or `float32`.
    """

    output: float
    output_absolute: float
    gradient: float
    torch_gradient: float
    precision: str


# ---- the command ------------------------------------------------------------------------------------


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option("--weights", help="A torchvision name (DEFAULT, IMAGENET1K_V1), or a .pth, .pt or .safetensors file.")
@click.option(
    "--size", type=int, nargs=2, metavar="H W", help="Input size in pixels; default: the weights', or 224 224."
)
@click.option("--channels", type=click.Choice(["RGB", "BGR", "GRAY"]), default="RGB", show_default=True)
@click.option("--exporter", type=click.Choice(sorted(OPSETS)), default="dynamo", show_default=True)
@click.option("--opset", type=int, help="Default: 20 for dynamo, 17 for torchscript.")
@click.option("--batch", type=int, help="Fix the batch size; default: any.")
@click.option("--labels", type=click.Path(path_type=Path), help="Text file, one label per line.")
@click.option("--mean", type=float, multiple=True, help="Per channel, after scaling; repeat for each channel.")
@click.option("--std", type=float, multiple=True, help="Per channel, after scaling; repeat for each channel.")
@click.option("--scale", type=float, help="What pixels of 0..255 are multiplied by first.")
@click.option("--resize", type=click.Choice(["stretch", "shortest_edge", "letterbox", "top_left_pad", "none"]))
@click.option("--resize-to", type=int, help="Shorter side before the centre crop, in pixels.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic", "lanczos", "nearest"]))
@click.option("--task", default=None, help="Such as classification.")
@click.option("--tolerance", type=float, default=TOLERANCE, show_default=True, help="Largest relative error allowed.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
def main(
    source: str,
    output: Path,
    weights: str | None,
    size: tuple[int, int] | None,
    labels: Path | None,
    exporter: str,
    opset: int | None,
    batch: int | None,
    tolerance: float,
    overwrite: bool,
    **flags: Any,
) -> None:
    """Read the arguments, convert, and say what came out."""
    try:
        refuse_overwriting(output, overwrite)
        found = load_source(source, weights)
        card = merge_card(found.card, size, labels, flags)
        click.echo(f"{source}: {found.weights} weights, input {tuple(card['size'])}, {exporter} exporter")
        agreement = convert(
            found.module, output, card=card, exporter=exporter, opset=opset, batch=batch, tolerance=tolerance
        )
    except OnnxsalError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1 if isinstance(error, DisagreementError) else 2)
    click.echo(report(agreement))
    if "mean" not in card:
        click.echo("card: no mean and std known, so onnxsal will guess and say so; give --mean and --std")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def report(agreement: Agreement) -> str:
    """Return the two numbers a user trusts the file by."""
    return (
        f"outputs: largest difference {agreement.output_absolute:.1e} ({agreement.output:.1e} relative)\n"
        f"input gradient: relative error {agreement.gradient:.1e} against torch.autograd in {agreement.precision} "
        f"(torch's own float32: {agreement.torch_gradient:.1e})"
    )


def convert(
    module: nn.Module,
    output: Path,
    *,
    card: Mapping[str, Any] | None = None,
    exporter: str = "dynamo",
    opset: int | None = None,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
) -> Agreement:
    """Write `module` as one ONNX file at `output`, and compare the two.

    Args:
        module: Takes an image batch (N, C, H, W) in float32; returns a tensor, or a tuple or
            dictionary of tensors.
        output: The file to write. It appears only once the comparison has passed.
        card: Card fields by name; `size` (H, W) and `channels` also shape the sample.
        exporter: `dynamo` or `torchscript`.
        opset: None takes the one the exporter is best at.
        batch: A fixed batch size; None leaves it open.
        tolerance: Largest relative error allowed in outputs and gradient.
        overwrite: Whether a file at `output` may be replaced.

    Raises:
        ModelError: The module cannot be run or exported.
        DisagreementError: Outputs or gradient differ by more than `tolerance`.
        OutputError: The file exists already, or cannot be written.
    """
    refuse_overwriting(output, overwrite)
    card = {"size": (224, 224), "channels": "RGB", **(card or {})}
    module, names = with_named_outputs(module.eval(), sample(card, batch or 3, 0))
    card = {"layout": "NCHW", "input": INPUT, "output": names[0], **card}
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        export(
            module, sample(card, batch or 2, 0), temporary, names, exporter, opset or OPSETS[exporter], batch is None
        )
        write_card(temporary, card)
        agreement = compare(module, temporary, card, batch, tolerance)
        require_agreement(agreement, tolerance)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return agreement


def refuse_overwriting(output: Path, overwrite: bool) -> None:
    """Raise early, before minutes of work, if `output` could not be written in the end."""
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or give --overwrite")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"cannot write into {output.parent}; create the folder or choose another with -o")


# ---- the module and its weights -------------------------------------------------------------------


def load_source(source: str, weights: str | None) -> Source:
    """Return the module that `torchvision:NAME` or `package.module:callable` names.

    Raises:
        ModelError: No such module, callable or weights.
    """
    package, _, name = source.partition(":")
    if not name:
        raise ModelError(f"{source!r} is neither 'torchvision:NAME' nor 'package.module:callable'")
    of_file = weights is not None and Path(weights).suffix in {".pth", ".pt", ".safetensors"}
    if package == "torchvision":
        found = from_torchvision(name, None if of_file else weights)
    elif weights is None or of_file:
        found = Source(call_builder(package, name))
    else:
        raise ModelError(
            f"weights {weights!r} name no .pth, .pt or .safetensors file, and {source} is not torchvision's"
        )
    if weights is not None and of_file:
        load_state(found.module, Path(weights))
        found = Source(found.module, found.card, weights)
    return Source(found.module.cpu().float().eval(), found.card, found.weights)


def from_torchvision(name: str, weights: str | None) -> Source:
    """Return torchvision's model `name`, with its card if its weights were named."""
    import torchvision.models as zoo

    if name not in zoo.list_models():
        near = [known for known in zoo.list_models() if name[:4].lower() in known]
        raise ModelError(f"torchvision has no model {name!r}; near it: {', '.join(near) or 'none'}")
    if weights is None:
        return Source(zoo.get_model(name, weights=None))
    known = zoo.get_model_weights(name).__members__
    if weights not in known:
        raise ModelError(f"torchvision's {name} has no weights {weights!r}; it has {', '.join(known) or 'none'}")
    try:
        module = zoo.get_model(name, weights=known[weights])
    except OSError as error:
        raise ModelError(
            f"cannot download the weights {weights} of {name}: {error}; give a file with --weights"
        ) from error
    return Source(module, card_of_weights(known[weights]), known[weights].name)


def call_builder(package: str, name: str) -> nn.Module:
    """Return the module that `name` in the Python module `package` is, or returns when called."""
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(package), name)
    except ModuleNotFoundError as error:
        raise ModelError(f"cannot import {package}: {error}; run from its folder, or install it") from error
    except AttributeError as error:
        raise ModelError(f"{package} has no {name!r}") from error
    try:
        module = found() if callable(found) and not isinstance(found, nn.Module) else found
    except Exception as error:
        raise ModelError(f"{package}:{name} cannot be called without arguments: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{package}:{name} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def load_state(module: nn.Module, path: Path) -> None:
    """Fill `module` from a state dictionary, seeing through the wrappings that training scripts add."""
    if not path.is_file():
        raise ModelError(f"no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            # Only tensors: a pickle could run code.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"cannot read weights from {path}: {first_line(error)}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        state = state[key] if isinstance(state.get(key), Mapping) else state
    # DistributedDataParallel puts 'module.' before every name.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"the weights in {path} do not fit the module: {' '.join(str(error).split())[:300]}"
        ) from error


# ---- the card ---------------------------------------------------------------------------------------


def card_of_weights(weights: Any) -> dict[str, Any]:
    """Return what torchvision's weights say about their photos and classes."""
    preset = weights.transforms()
    card: dict[str, Any] = {}
    if getattr(preset, "mean", None) is not None:
        card |= {"scale": 1 / 255, "mean": tuple(preset.mean), "std": tuple(preset.std)}
    if getattr(preset, "crop_size", None):
        height, width = (preset.crop_size * 2)[:2]
        card |= {"task": "classification", "size": (height, width), "crop": "center", "resize": "shortest_edge"}
        card |= {"resize_to": min(preset.resize_size), "interpolation": preset.interpolation.value}
    if "categories" in weights.meta:
        card["labels"] = tuple(weights.meta["categories"])
    return card


def merge_card(
    known: Mapping[str, Any], size: tuple[int, int] | None, labels: Path | None, flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the card: what the weights say, and over it what the command line says."""
    said = {name: value for name, value in flags.items() if value not in (None, ())}
    if labels is not None:
        try:
            said["labels"] = tuple(labels.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise CardError(f"cannot read labels from {labels}: {error}") from error
    if size is not None:
        said["size"] = size
    card = {"size": (224, 224), **known, **said}
    for name in ("mean", "std"):
        if len(card.get(name, ())) not in (0, channel_count(card)):
            raise CardError(f"--{name} was given {len(card[name])} times; the image has {channel_count(card)} channels")
    return card


def channel_count(card: Mapping[str, Any]) -> int:
    """Return 1 for gray photos, else 3."""
    return 1 if card["channels"] == "GRAY" else 3


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write `card` into the file's metadata, and drop what the exporter noted about this computer."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.endswith(("stack_trace", "fx_node"))]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.helper.set_model_props(model, {f"onnxsal.{name}": json.dumps(value) for name, value in card.items()})
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


# ---- the export ---------------------------------------------------------------------------------------


class NamedOutputs(nn.Module):
    """A module whose dictionary or tuple of outputs comes as a plain tuple."""

    def __init__(self, module: nn.Module) -> None:
        """Wrap `module`."""
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in order."""
        outputs = self.module(x)
        return tuple(outputs.values()) if isinstance(outputs, Mapping) else tuple(outputs)


def with_named_outputs(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    """Return a module of plain outputs, and a name for each.

    Raises:
        ModelError: The module does not run on `x`, or returns something else than tensors.
    """
    try:
        with torch.no_grad():
            outputs = module(x)
    except Exception as error:
        raise ModelError(
            f"the module does not run on an input {tuple(x.shape)}: {first_line(error)}; see --size, --batch"
        ) from error
    if isinstance(outputs, Tensor):
        return module, ["scores"]
    tensors = dict(outputs) if isinstance(outputs, Mapping) else dict(enumerate(outputs))
    strangers = {type(value).__name__ for value in tensors.values() if not isinstance(value, Tensor)}
    if strangers or not tensors:
        kind = ", ".join(sorted(strangers)) or "nothing"
        raise ModelError(f"the module returns {kind}, not tensors; wrap it in a module that returns its scores")
    names = [name if isinstance(name, str) else f"output_{name}" for name in tensors]
    return NamedOutputs(module).eval(), names


def export(
    module: nn.Module,
    x: Tensor,
    path: Path,
    names: list[str],
    exporter: str,
    opset: int,
    dynamic_batch: bool,
    **options: Any,
) -> None:
    """Write `module` to `path` with one of torch's two exporters.

    Args:
        module: In evaluation mode.
        x: A sample (N, C, H, W), N >= 2: exporters take a batch of 1 for a constant.
        path: The file to write, weights within.
        names: Of the outputs.
        exporter: `dynamo` or `torchscript`.
        opset: Of the file.
        dynamic_batch: Whether N stays open.
        options: More arguments of `torch.onnx.export`.
    """
    options = {"input_names": [INPUT], "output_names": names, "opset_version": opset, "verbose": False, **options}
    if exporter == "dynamo":
        options |= {"dynamo": True, "external_data": False}
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    else:
        options["dynamo"] = False
        options["dynamic_axes"] = {name: {0: "batch"} for name in [INPUT, *names]} if dynamic_batch else None
    try:
        with silence():
            torch.onnx.export(module, (x,), path, **options)
    except Exception as error:
        other = "torchscript" if exporter == "dynamo" else "dynamo"
        raise ModelError(
            f"torch cannot export the module: {first_line(error)}; try --exporter {other}, or --batch 1"
        ) from error


@contextmanager
def silence() -> Iterator[None]:
    """Keep the exporters' warnings to themselves; `compare` finds out what they warn of."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def first_line(error: Exception) -> str:
    """Return the first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# ---- the comparison -------------------------------------------------------------------------------


def compare(module: nn.Module, path: Path, card: Mapping[str, Any], batch: int | None, tolerance: float) -> Agreement:
    """Measure how far the file at `path` is from `module`, in float64 where the module allows it.

    A float32 rounding that crosses a kink (a ReLU's zero, a tie in a pooling window) changes
    a deep network's gradient by far more than its size, in torch as well. So a sample counts
    only if torch's float32 agrees with its float64 on it; the best of a few is taken.
    """
    reference, precision = in_float64(module, sample(card, batch or 1, 0))
    candidates = []
    for number in range(4):
        # Another batch size than the exporter saw, so that a batch it took for a constant shows.
        x = sample(card, batch or 3, number)
        cotangent = torch.from_numpy(random_array(number, shape_of_scores(module, x)))
        exact = input_gradient(reference, x.to(getattr(torch, precision)), cotangent)
        own = relative_l2(input_gradient(module, x, cotangent), exact)
        candidates.append((own, x, cotangent, exact))
        if own < tolerance / 10:
            break
    own, x, cotangent, exact = min(candidates, key=lambda candidate: candidate[0])
    absolute, relative = output_error(reference, path, [x, x[: batch or 1]], precision)
    gradient = gradient_error(path, card["output"], x, cotangent, exact, tolerance)
    return Agreement(relative, absolute, gradient, own, precision)


def require_agreement(agreement: Agreement, tolerance: float) -> None:
    """Raise if the file and the module differ by more than rounding explains."""
    if not agreement.output <= tolerance:
        raise DisagreementError(
            f"the outputs of the ONNX file differ from torch's by {agreement.output:.1e} relative, more than "
            f"{tolerance:.1e}; no file was written; try the other --exporter, or raise --tolerance"
        )
    # Where torch's own float32 is further off, so may another implementation be.
    allowed = max(tolerance, 4 * agreement.torch_gradient)
    if not agreement.gradient <= allowed:
        raise DisagreementError(
            f"onnxsal's input gradient of the ONNX file differs from torch.autograd's by {agreement.gradient:.1e} "
            f"relative, more than {allowed:.1e}; no file was written; try the other --exporter, or raise --tolerance"
        )


def sample(card: Mapping[str, Any], batch: int, number: int) -> Tensor:
    """Return random images (batch, C, H, W) as they look after normalisation; the same for the same `number`."""
    return torch.from_numpy(random_array(number, (batch, channel_count(card), *card["size"])))


def random_array(number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a standard normal array."""
    return np.random.default_rng([number, *shape]).standard_normal(shape, dtype=np.float32)


def in_float64(module: nn.Module, x: Tensor) -> tuple[nn.Module, str]:
    """Return the module in float64, or itself if its code insists on float32; and which."""
    double = copy.deepcopy(module).double()
    try:
        with torch.no_grad():
            double(x.double())
    except RuntimeError:
        return module, "float32"
    return double, "float64"


def outputs_of(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Return the module's outputs as a tuple."""
    outputs = module(x)
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def shape_of_scores(module: nn.Module, x: Tensor) -> tuple[int, ...]:
    """Return the shape of the first output."""
    with torch.no_grad():
        return tuple(outputs_of(module, x)[0].shape)


def input_gradient(module: nn.Module, x: Tensor, cotangent: Tensor) -> Tensor:
    """Return the gradient of <cotangent, first output> with respect to x, by torch."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(outputs_of(module, x)[0], x, cotangent.to(x.dtype))
    return gradient


def relative_l2(value: Tensor, reference: Tensor) -> float:
    """Return |value - reference| / |reference|, Euclidean."""
    return float((value.double() - reference.double()).norm() / reference.double().norm().clamp_min(1e-30))


def output_error(reference: nn.Module, path: Path, batches: list[Tensor], precision: str) -> tuple[float, float]:
    """Return the largest absolute and relative difference over the outputs and `batches`."""
    session = open_session(path.read_bytes())
    absolute, relative = [], []
    for x in batches:
        with torch.no_grad():
            expected = outputs_of(reference, x.to(getattr(torch, precision)))
        for ours, theirs in zip(run(session, {INPUT: x.numpy()}), expected, strict=True):
            difference = float(np.abs(ours - theirs.numpy()).max())
            absolute.append(difference)
            relative.append(difference / max(float(theirs.abs().max()), 1e-30))
    return max(absolute), max(relative)


def gradient_error(path: Path, scores: str, x: Tensor, cotangent: Tensor, exact: Tensor, tolerance: float) -> float:
    """Return the relative L2 error of onnxsal's input gradient.

    An excess counts only if it is there without ONNX Runtime's graph optimisations as well:
    with them, other roundings cross other kinks.
    """
    backward = onnx_ir.to_proto(vjp(onnx_ir.load(path), of=[scores], wrt=[INPUT])).SerializeToString()
    feeds = {INPUT: x.numpy(), f"cotangent_{scores}": cotangent.numpy()}
    errors = []
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        (gradient,) = run(open_session(backward, level), feeds, [f"grad_{INPUT}"])
        errors.append(relative_l2(torch.from_numpy(gradient), exact))
        if errors[-1] <= tolerance:
            break
    return min(errors)


def open_session(model: bytes, level: str = "ORT_ENABLE_ALL") -> onnxruntime.InferenceSession:
    """Return a CPU session; ONNX Runtime's warnings are of no use to the reader here."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, NDArray[Any]], names: list[str] | None = None
) -> list[NDArray[Any]]:
    """Run `session`.

    Raises:
        DisagreementError: The file does not run on another batch size than it was exported with.
    """
    try:
        outputs: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:
        shape = next(iter(feeds.values())).shape
        raise DisagreementError(
            f"the ONNX file does not run on an input {shape}: {first_line(error)}; try --batch 1"
        ) from error
    return outputs


if __name__ == "__main__":
    main()
