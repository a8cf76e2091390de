"""Freeze torch's input gradients of many architectures, exported by both torch exporters.

Run by hand where torch is installed; the ordinary tests read what it writes and need no torch:

    python tests/parity/freeze.py [ARCHITECTURE ...]

Those of transformers, and what torchvision has beyond classifiers, were frozen with torch 2.14.1, torchvision 0.29.1,
transformers 5.24.0, onnxscript 0.7.2, onnx 1.23.2; the others with torch 2.13.0 and torchvision 0.28.0.
"""

import copy
import sys
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "converters")]

import from_torch  # noqa: E402  found through the line above
from parity import frozen  # noqa: E402
from parity.architectures import ARCHITECTURES, Architecture  # noqa: E402
from parity.weights import Floats, uniform, weight  # noqa: E402

TRIES = 300
# An image is kept if neither torch's float32 nor weights that are off by NOISE change its
# gradient by SMOOTH: a smooth function hardly moves, and a crossed kink moves far more.
NOISE = 1e-6
SMOOTH = 2e-5


def main(names: list[str]) -> None:
    """Freeze the architectures called `names`, or all."""
    frozen.FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for name in names or ARCHITECTURES:
        sizes = freeze(name, ARCHITECTURES[name])
        report = ", ".join(f"{path.name} {path.stat().st_size} bytes" for path in sizes)
        sys.stdout.write(f"{name}: {report}\n")


def freeze(name: str, architecture: Architecture) -> list[Path]:
    """Write the reference and the two graphs of one architecture."""
    # The exporters cannot write what a module has kept of its weights if it wants gradients.
    module = architecture.build().eval().requires_grad_(False)
    fill(module, architecture.gain)
    reference = find_reference(module, architecture)
    parameters = parameters_of(module)
    written = [reference.save(name)]
    for exporter in frozen.EXPORTERS:
        if f"{name}.{exporter}" not in frozen.NOT_EXPORTED:
            opset = getattr(architecture, exporter)
            model = export(module, torch.from_numpy(reference.x), exporter, opset)
            written.append(frozen.save_graph(model, parameters, f"{name}.{exporter}"))
    return written


def parameters_of(module: nn.Module) -> set[str]:
    """Return the names of what `fill` fills."""
    return {name for name, value in module.state_dict().items() if value.is_floating_point()}


def fill(module: nn.Module, gain: float) -> None:
    """Put generated weights into `module`."""
    with torch.no_grad():
        # Backwards, since the exporters call a weight that has two names by the first.
        for name, value in reversed(module.state_dict().items()):
            if value.is_floating_point():
                value.copy_(torch.from_numpy(weight(name, tuple(value.shape), gain)))


def find_reference(module: nn.Module, architecture: Architecture) -> frozen.Reference:
    """Return the reference of the first two images that lie away from kinks."""
    # Copies, since some modules keep what they computed when they first ran.
    exact, plain = copy.deepcopy(module).double(), copy.deepcopy(module)
    others = [plain, *(with_noise(exact, number) for number in range(3))]
    size, gain = architecture.size, architecture.gain
    numbers = list(islice((n for n in range(TRIES) if is_smooth(exact, others, frozen.image(n, size))), 2))
    if len(numbers) < 2:
        raise RuntimeError(f"only {numbers} of {TRIES} images lie away from kinks; lower the gain")
    x = torch.from_numpy(frozen.images(numbers, size))
    scores, gradient = run(exact, x.double())
    kept = gradient.float().numpy().ravel()[:: frozen.Reference.thinned]
    return frozen.Reference(size, gain, np.array(numbers), scores.float().numpy(), kept)


def is_smooth(exact: nn.Module, others: list[nn.Module], image: Floats) -> bool:
    """Return whether the gradient at `image` is the same for modules that differ by rounding."""
    x = torch.from_numpy(image)
    _, gradient = run(exact, x.double())
    return all(distance(run(other, x.to(dtype_of(other)))[1], gradient) < SMOOTH for other in others)


def with_noise(module: nn.Module, number: int) -> nn.Module:
    """Return `module` with every weight off by a few roundings, as another processor's kernels might be."""
    noisy = copy.deepcopy(module)
    with torch.no_grad():
        for name, value in noisy.state_dict().items():
            if value.is_floating_point():
                value.mul_(1 + NOISE * torch.from_numpy(uniform(f"noise {number} {name}", tuple(value.shape))))
    return noisy


def distance(gradient: Tensor, reference: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((gradient - reference).abs().max() / reference.abs().max())


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the type of the module's weights."""
    return next(module.parameters()).dtype


def run(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores, and the gradient of <cotangent, scores>."""
    x = x.clone().requires_grad_()
    scores = module(x)
    cotangent = torch.from_numpy(uniform("cotangent", tuple(scores.shape))).to(x.dtype)
    (gradient,) = torch.autograd.grad(scores, x, cotangent)
    return scores.detach(), gradient


def export(module: nn.Module, x: Tensor, exporter: str, opset: int) -> onnx.ModelProto:
    """Return the module as ONNX, with every parameter under its own name.

    Hence no folding of BatchNormalization into Conv, which the exporters do by default: it
    changes the weights. What else they fold is folded here.
    """
    if exporter == "dynamo":
        options = {"optimize": False}
    else:
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        from_torch.export(module, x, path, ["scores"], exporter, opset, True, **options)
        model = onnx.load(path)
    if exporter == "dynamo":
        onnxscript.optimizer.fold_constants(model, should_fold=partial(keep_weights, parameters_of(module)))
        onnxscript.optimizer.remove_unused_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def keep_weights(parameters: set[str], node: onnx_ir.Node) -> bool | None:
    """Return False for what would fold a parameter into another; None leaves the choice to the optimizer."""
    return False if any(v is not None and v.name in parameters for v in node.inputs) else None


if __name__ == "__main__":
    main(sys.argv[1:])
