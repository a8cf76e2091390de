"""Freeze what captum and pytorch-grad-cam say of small networks, and the networks as ONNX files.

Run by hand where both are installed; the ordinary tests read what it writes and need neither:

    python tests/parity/freeze_methods.py [NETWORK ...]

Last run with captum 0.9.0, grad-cam 1.5.7 (pytorch-grad-cam), torch 2.13.0, timm 1.0.31, opencv 5.0.0,
onnx 1.23.2. Everything is computed in float64 and kept in float32.

Where the libraries differ from onnxsal or from each other, and what was taken:

- Saliency: captum takes magnitudes and keeps the channels. `abs=False` is our attribution; our map is the
  largest magnitude among the channels, as in the paper, divided by its maximum.
- Input times gradient: captum's is the plain gradient's. There is no peer of `rule="guided"`: it is compared
  with the input times captum's GuidedBackprop.
- What is a rectifier: captum and pytorch-grad-cam change `nn.ReLU` modules and no others; a functional ReLU,
  ReLU6, LeakyReLU, PReLU keeps its derivative without a word. On the network that has these, the reference
  is torch.autograd with each rectifier rewritten by hand (`methods_rectifiers.py`), which on the other
  networks is checked against captum's.
- A value that a ReLU and another node both read, as in a pre-activation ResNet: captum rewrites that value's
  whole gradient, and not only the part that comes through the ReLU. It is part of the network by hand.
- Without any rectifier captum gives the plain gradient; onnxsal refuses (the transformer).
- CAM: neither has it. It is compared with the linear layer's weights times the activations, in torch.
- Grad-CAM: captum keeps the sign by default; `relu_attributions=True` is the paper's. Our `relu=False` is
  its default. pytorch-grad-cam's own map is taken before it scales (signed), and after: it subtracts the
  map's minimum, enlarges with OpenCV's INTER_LINEAR (half-pixel centres, as ours), and subtracts the minimum
  again, where we only divide by the maximum; our heatmap is min-max scaled for that comparison. Several
  target layers, which it averages, are left out: onnxsal looks at one.
- Tokens: pytorch-grad-cam is told of them by a `reshape_transform`; onnxsal finds the grid itself. captum
  would take the mean over the channels and sum over the tokens, so it is not asked for Grad-CAM there.
- Guided Grad-CAM: captum enlarges by `nearest` by default; "bilinear" is the paper's, and ours.
- Neurons: captum's index follows the layer's axes as the module stores it; ours is channel, row and column of
  the grid, so that a channel's sum leaves class tokens and padding out.
- A softmax at the end: peers explain what the module gives. The VGG's file ends with one, its module does
  not; onnxsal explains the logits behind the softmax unless told `prob:`.
"""

import copy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "converters")]

import from_torch  # noqa: E402  found through the line above
from parity import frozen, methods_cases  # noqa: E402
from parity.methods_cases import Floats  # noqa: E402
from parity.methods_nets import NETS, SIZE, Net  # noqa: E402
from parity.methods_peers import View, all_maps  # noqa: E402
from parity.methods_rectifiers import deconvnet, guided, rewrite  # noqa: E402
from parity.weights import uniform, weight  # noqa: E402

LIMIT = 100_000  # bytes of an ONNX file
TRIES = 1000
# An image is kept if float32 gives the gradients of float64: it lies away from kinks.
SMOOTH = 1e-5


def main(names: list[str]) -> None:
    """Freeze the networks called `names`, or all."""
    methods_cases.FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for name in names or NETS:
        freeze(name, NETS[name])


def freeze(name: str, net: Net) -> None:
    """Write the ONNX file and the maps of one network."""
    module = build(name, net)
    x = find_input(name, module, net.target)
    path = export(net, module, x, methods_cases.FOLDER / f"{name}.onnx")
    view = View(net, module, value_names(path, net, module, x), x)
    maps = [(case, array.detach().float().numpy()) for case, array in all_maps(view)]
    for case, array in maps:
        if not np.isfinite(array).all() or not array.reshape(2, -1).any(1).all():
            raise RuntimeError(f"{name}: {case} says nothing; choose another class, or other weights")
    written = methods_cases.save(name, x.numpy(), maps)
    for file in (path, written):
        sys.stdout.write(f"{file.name}: {file.stat().st_size} bytes\n")


def build(name: str, net: Net) -> nn.Module:
    """Return the network with the weights that go by its name."""
    module = net.build().eval()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(weight(f"{name}.{key}", tuple(value.shape), net.gain)))
    return module


def find_input(name: str, module: nn.Module, target: int) -> Tensor:
    """Return the first two images (2, 3, H, W) away from kinks."""
    tries = (torch.from_numpy(uniform(f"{name} {number}", (1, 3, *SIZE))) for number in range(TRIES))
    smooth = (x for x in tries if is_smooth(module, x, target))
    return torch.cat([next(smooth), next(smooth)])


def is_smooth(module: nn.Module, x: Tensor, target: int) -> bool:
    """Return whether float32 and float64 agree on the gradient, the guided one, and DeconvNet's."""
    for rule in (None, guided, deconvnet):
        changed = rewrite(module, rule) if rule else copy.deepcopy(module)
        rounded = gradient(changed, x, target)
        exact = gradient(changed.double(), x.double(), target)
        if (rounded - exact).abs().max() > SMOOTH * exact.abs().max():
            return False
    return True


def gradient(module: nn.Module, x: Tensor, target: int) -> Tensor:
    """Return the gradient of a logit."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x)[:, target].sum(), x)[0]


def export(net: Net, module: nn.Module, x: Tensor, path: Path) -> Path:
    """Write the file, and return it."""
    # A Sequential in training mode would turn training on in the module once it is exported.
    whole = nn.Sequential(module, nn.Softmax(1)).eval() if net.softmax else module
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        opset = from_torch.OPSETS[net.exporter]
        from_torch.export(whole, x, raw, ["scores"], net.exporter, opset, True, **dict(net.options))
        model = onnx.load(raw)
    frozen.strip_notes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    if path.stat().st_size > LIMIT:
        raise RuntimeError(f"{path} is larger than {LIMIT} bytes")
    return path


def value_names(path: Path, net: Net, module: nn.Module, x: Tensor) -> dict[str, str]:
    """Return by alias the ONNX value of each layer: the first with the module's numbers."""
    outputs: dict[str, Floats] = {}
    for alias, at in net.layers.items():
        hook = module.get_submodule(at).register_forward_hook(
            lambda _module, _inputs, output, alias=alias: outputs.update({alias: output.detach().numpy()})
        )
        module(x)
        hook.remove()
    activations = run_all(onnx.load(path), x.numpy())
    return {alias: find_equal(activations, output) for alias, output in outputs.items()}


def run_all(model: onnx.ModelProto, x: Floats) -> dict[str, Floats]:
    """Return every float value that the nodes make."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    model.graph.output.extend(v for v in inferred if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {model.graph.input[0].name: x}), strict=True))


def find_equal(activations: Mapping[str, Floats], wanted: Floats) -> str:
    """Return the name of the first activation that equals `wanted`."""
    return next(k for k, v in activations.items() if v.shape == wanted.shape and np.allclose(v, wanted, 1e-4, 1e-5))


if __name__ == "__main__":
    main(sys.argv[1:])
