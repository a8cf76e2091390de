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
import inspect
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

try:
    import click
    import torch
    from exchange import (
        CHANNEL_COUNTS,
        TOLERANCE,
        Agreement,
        Array,
        DisagreementError,
        channel_count,
        first_line,
        new_file,
        random_images,
        refuse_overwriting,
        require_agreement,
        write_card,
    )
    from torch import Tensor, nn

    from onnxsal.errors import CardError, ModelError, OnnxsalError
    from onnxsal.model.card import Card, parse_card
    from onnxsal.model.card.fields import INTERPOLATIONS, RESIZES, TASKS
    from onnxsal.model.card.files import read_labels
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; `uv run converters/from_torch.py` brings all it needs")

OPSETS = {"dynamo": 20, "torchscript": 17}
INPUT = "image"


@dataclass(frozen=True)
class Source:
    """A module ready to export, and what its weights say about photos.

    Attributes:
        module: In evaluation mode, on the CPU.
        card: What is known from the weights; says nothing for random ones.
        weights: In words, for the user.
    """

    module: nn.Module
    card: Card = field(default_factory=Card)
    weights: str = "random"


# ---- the command ------------------------------------------------------------------------------------


# \b keeps click from joining the lines of the examples.
@click.command(
    help=__doc__.replace("\n    uv", "\n\b\n    uv", 1), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option("--weights", help="A torchvision name (DEFAULT, IMAGENET1K_V1), or a .pth, .pt or .safetensors file.")
@click.option(
    "--size", type=int, nargs=2, metavar="H W", help="Input size in pixels; default: the weights', or 224 224."
)
@click.option("--channels", type=click.Choice(sorted(CHANNEL_COUNTS)), default="RGB", show_default=True)
@click.option("--exporter", type=click.Choice(sorted(OPSETS)), default="dynamo", show_default=True)
@click.option("--opset", type=int, help="Default: 20 for dynamo, 17 for torchscript.")
@click.option("--batch", type=int, help="Fix the batch size; default: any.")
@click.option("--labels", type=click.Path(path_type=Path), help="Text file, one label per line.")
@click.option("--mean", type=float, multiple=True, help="Per channel, after scaling; repeat for each channel.")
@click.option("--std", type=float, multiple=True, help="Per channel, after scaling; repeat for each channel.")
@click.option("--scale", type=float, help="What pixels of 0..255 are multiplied by first.")
@click.option("--resize", type=click.Choice(RESIZES))
@click.option("--resize-to", type=int, help="Shorter side before the centre crop, in pixels.")
@click.option("--interpolation", type=click.Choice(INTERPOLATIONS))
@click.option("--task", type=click.Choice(TASKS))
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
        click.echo(f"{source}: {found.weights} weights, input {card.size}, {exporter} exporter")
        agreement = convert(
            found.module,
            output,
            card=card,
            exporter=exporter,
            opset=opset,
            batch=batch,
            tolerance=tolerance,
            overwrite=overwrite,
        )
    except OnnxsalError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1 if isinstance(error, DisagreementError) else 2)
    click.echo(str(agreement))
    if card.mean is None:
        click.echo("card: no mean and std known, so onnxsal will guess and say so; give --mean and --std")
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.3g} MB)")


def convert(
    module: nn.Module,
    output: Path,
    *,
    card: Card | None = None,
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
        card: What is known; its `size` (224 x 224 if not said) and `channels` (RGB) shape the input.
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
    card = parse_card({"size": (224, 224), "channels": "RGB", **(card or Card()).said()}, "card")
    with new_file(output, overwrite) as path:
        module, names = with_named_outputs(module.eval(), sample(card, batch or 3))
        card = replace(card, layout="NCHW", input=INPUT, output=names[0])
        export(module, sample(card, batch or 2), path, names, exporter, opset or OPSETS[exporter], batch is None)
        write_card(path, card)
        original = Torch(module, sample(card, batch or 1))
        return require_agreement(path, card, original, batch=batch, tolerance=tolerance)


def sample(card: Card, batch: int) -> Tensor:
    """Return random images (batch, C, H, W)."""
    return torch.from_numpy(random_images(card, batch, 0))


# ---- the module and its weights -------------------------------------------------------------------


def load_source(source: str, weights: str | None) -> Source:
    """Return the module that `torchvision:NAME` or `package.module:callable` names.

    Raises:
        ModelError: No such module, callable or weights.
    """
    # Random weights, if none are given: the same at every call.
    torch.manual_seed(0)
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
    known = zoo.get_model_weights(name).__members__
    if weights is not None and weights not in known:
        raise ModelError(f"torchvision's {name} has no weights {weights!r}; it has {', '.join(known) or 'none'}")
    chosen = None if weights is None else known[weights]
    # Detectors and segmenters fetch a trained backbone unless told not to.
    has_backbone = "weights_backbone" in inspect.signature(zoo.get_model_builder(name)).parameters
    try:
        module = zoo.get_model(name, weights=chosen, **({"weights_backbone": None} if has_backbone else {}))
    except OSError as error:
        raise ModelError(f"cannot download weights {weights} of {name}: {error}; give a file to --weights") from error
    return Source(module) if chosen is None else Source(module, card_of_weights(chosen), chosen.name)


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


def card_of_weights(weights: Any) -> Card:
    """Return what torchvision's weights say about their photos and classes."""
    preset = weights.transforms()
    said: dict[str, Any] = {"labels": weights.meta.get("categories")}
    if getattr(preset, "mean", None) is not None:
        said |= {"scale": 1 / 255, "mean": tuple(preset.mean), "std": tuple(preset.std), "channels": "RGB"}
    if getattr(preset, "crop_size", None):
        # torchvision writes one number for a square.
        said |= {"task": "classification", "size": (preset.crop_size * 2)[:2], "crop": "center"}
        said |= {"resize": "shortest_edge", "resize_to": min(preset.resize_size), "rounding": "torchvision"}
        said["interpolation"] = preset.interpolation.value
    return parse_card(said, "the weights' card")


def merge_card(known: Card, size: tuple[int, int] | None, labels: Path | None, flags: Mapping[str, Any]) -> Card:
    """Return the card: what the weights say, and over it what the command line says.

    Raises:
        CardError: A value that its field does not allow, or unreadable labels.
    """
    flags = {**flags, "size": size, "labels": read_labels(labels, "--labels") if labels else None}
    said = {name: value for name, value in flags.items() if value not in (None, ())}
    card = parse_card({"size": (224, 224), **known.said(), **said}, "command line")
    for name in ("mean", "std"):
        count = len(getattr(card, name) or ())
        if count not in (0, 1, channel_count(card)):
            raise CardError(f"--{name} was given {count} times; the image has {channel_count(card)} channels")
    return card


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


# ---- the original, for the comparison -------------------------------------------------------------


class Torch:
    """The module behind the functions that `exchange.require_agreement` compares with."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        """Take the module, and its float64 copy unless its code insists on float32 on an input such as `x`."""
        self.module, self.reference = module, copy.deepcopy(module).double()
        self.precision, self.dtype = "float64", torch.float64
        try:
            with torch.no_grad():
                self.reference(x.double())
        except RuntimeError:
            self.reference, self.precision, self.dtype = module, "float32", torch.float32

    def outputs(self, x: Array) -> list[Array]:
        """Return all outputs."""
        with torch.no_grad():
            return [output.numpy() for output in as_tuple(self.reference(torch.from_numpy(x).to(self.dtype)))]

    def gradient(self, x: Array, cotangent: Array) -> Array:
        """Return the input gradient in the reference's precision."""
        return input_gradient(self.reference, torch.from_numpy(x).to(self.dtype), cotangent)

    def float32_gradient(self, x: Array, cotangent: Array) -> Array:
        """Return the input gradient of the module as it is."""
        return input_gradient(self.module, torch.from_numpy(x), cotangent)


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def input_gradient(module: nn.Module, x: Tensor, cotangent: Array) -> Array:
    """Return the gradient of <cotangent, first output> with respect to x, by torch."""
    x = x.clone().requires_grad_()
    scores = as_tuple(module(x))[0]
    (gradient,) = torch.autograd.grad(scores, x, torch.from_numpy(cotangent).to(x.dtype))
    return gradient.numpy()


if __name__ == "__main__":
    # A killed run unwinds as well, and takes its unfinished file along.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    main()
