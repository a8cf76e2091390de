"""What is timed: functions of no arguments that explain one batch, each set up beforehand.

onnxsal and ONNX Runtime run in the sessions that the product opens. PyTorch computes the gradient of the input alone,
its weights frozen; pytorch-grad-cam needs them as they come.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import networks
import numpy as np
import onnx_ir as ir
import torch

import onnxsal
from onnxsal.autodiff import vjp
from onnxsal.graph.runtimes import RuntimeName
from onnxsal.session import Session

ROWS = ("forward", "gradient", "grad-cam")
TARGET = 281
CPU = ["CPUExecutionProvider"]
SETTLING = 40  # seconds at most


@dataclass(frozen=True)
class Contender:
    """What one tool does for one row of the table, on one batch.

    Attributes:
        row: One of `ROWS`.
        tool: Its name.
        run: Explains the batch.
    """

    row: str
    tool: str
    run: Callable[[], object]


# ----- onnxsal, and ONNX Runtime alone -----


def graphs(network: str, folder: Path, runtime: RuntimeName = "native") -> dict[str, Path]:
    """Write what is run for each row: the exported model, and the explainers that onnxsal compiles of it."""
    model = onnxsal.load(networks.make_onnx(network, folder))
    for row in ROWS[1:]:
        ir.save(model.compile(row, target=str(TARGET), runtime=runtime), graph_path(network, folder, row))
    return {row: graph_path(network, folder, row) for row in ROWS}


def graph_path(network: str, folder: Path, row: str) -> Path:
    """Return where the graph of a row lies."""
    path = networks.make_onnx(network, folder)
    return path if row == "forward" else path.with_suffix(f".{row}.onnx")


def open_session(path: Path, threads: int) -> tuple[Session, float]:
    """Open a session as the product does; return the seconds it took beside it."""
    begin = time.perf_counter()
    return Session(path, CPU, threads=threads), time.perf_counter() - begin


def ours(row: str, session: Session, batch: int) -> Contender:
    """Run a session on a batch of images, the target beside it where one is asked for."""
    images, target = networks.images(batch).numpy(), np.full(batch, TARGET, np.int64)
    feeds = {name: target if name == "target" else images for name in session.inputs}
    return Contender(row, "ONNX Runtime" if row == "forward" else "onnxsal", lambda: session.run(feeds))


def settle(session: Session, batch: int) -> None:
    """Run a session until it works in the memory it keeps: it asks the system for large pages once that pays."""
    run = ours("", session, batch).run
    end = time.perf_counter() + SETTLING
    while session.pages is not None and not session.pages.settled and time.perf_counter() < end:
        run()


def seconds_to_differentiate(network: str, folder: Path) -> float:
    """Return the seconds from the loaded model to the graph of its input gradient."""
    model = ir.load(networks.make_onnx(network, folder))
    begin = time.perf_counter()
    vjp(model, of="scores", wrt="image")
    return time.perf_counter() - begin


# ----- Peers -----


def peers(network: str, folder: Path, batch: int) -> tuple[list[Contender], list[str]]:
    """Return the peers, and a line for each that is not installed or cannot do it."""
    found: list[Contender] = []
    absent: list[str] = []
    for make in (pytorch, captum, onnx2torch_captum, pytorch_grad_cam):
        try:
            made = make(network, folder, networks.images(batch))
            for contender in made:
                contender.run()
            found += made
        except ImportError as error:
            absent.append(f"{make.__name__} is left out: {error.name} is not installed")
        except Exception as error:  # what a peer cannot do is a finding, and no reason to stop
            absent.append(f"{make.__name__} is left out on {network}: {str(error).splitlines()[0]}")
    return found, absent


def pytorch(network: str, folder: Path, x: torch.Tensor) -> list[Contender]:
    """Eager PyTorch: the forward pass, and `autograd.grad` of the input alone."""
    module = networks.make_torch(network).requires_grad_(False)
    return [
        Contender("forward", "PyTorch", lambda: scores(module, x)),
        Contender("gradient", "PyTorch", lambda: input_gradient(module, x)),
    ]


def scores(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the scores."""
    with torch.no_grad():
        return module(x)


def input_gradient(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the target's score with respect to x."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(module(x)[:, TARGET].sum(), x)[0]


def captum(network: str, folder: Path, x: torch.Tensor) -> list[Contender]:
    """Captum's Saliency on the PyTorch module."""
    return [Contender("gradient", "captum", saliency(networks.make_torch(network), x))]


def onnx2torch_captum(network: str, folder: Path, x: torch.Tensor) -> list[Contender]:
    """Captum's Saliency on the module that onnx2torch makes of the exported file."""
    return [Contender("gradient", "onnx2torch + captum", saliency(networks.make_onnx2torch(network, folder), x))]


def saliency(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return what calls captum's Saliency."""
    from captum.attr import Saliency

    method = Saliency(module.requires_grad_(False))
    return lambda: method.attribute(x.detach().requires_grad_(), target=TARGET)


def pytorch_grad_cam(network: str, folder: Path, x: torch.Tensor) -> list[Contender]:
    """pytorch-grad-cam's GradCAM at the layer that onnxsal looks at."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = networks.make_torch(network)
    layer = module.get_submodule(networks.NETWORKS[network][1])
    method = GradCAM(module, [layer], reshape_transform=to_grid if network.startswith("ViT") else None)
    targets = [ClassifierOutputTarget(TARGET)] * len(x)
    return [Contender("grad-cam", "pytorch-grad-cam", lambda: method(input_tensor=x, targets=targets))]


def to_grid(tokens: torch.Tensor) -> torch.Tensor:
    """Return (N, 1 + 14 * 14, C) as (N, C, 14, 14), without the class token."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
