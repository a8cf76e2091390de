"""What captum and pytorch-grad-cam say of one network, and how to ask onnxsal for the same.

The settings taken, and why, are in the header of `freeze_methods.py`.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    LayerAttribution,
    LayerGradCam,
    NeuronDeconvolution,
    NeuronGradient,
    NeuronGuidedBackprop,
    Saliency,
)
from parity.methods_cases import Case, Floats
from parity.methods_nets import CLASSES, SIZE, Net
from parity.methods_rectifiers import RECTIFIERS, Rule, deconvnet, guided, rewrite
from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

Maps = Iterator[tuple[Case, Tensor]]
Selector = Callable[[Tensor], Tensor]


class View:
    """A network in float64, and its input.

    Attributes:
        net: The network.
        module: Its module.
        names: ONNX value by alias of layer.
        x: The input.
        target: The class that is explained.
        rectified: Whether it has rectifiers.
        only_relu: Whether it has, and they are all `nn.ReLU`.
    """

    def __init__(self, net: Net, module: nn.Module, names: dict[str, str], x: Tensor) -> None:
        """Look at the rectifiers."""
        self.net, self.module, self.names, self.x = net, module.double(), names, x.double()
        self.target = net.target
        kinds = {type(m) for m in module.modules()} & set(RECTIFIERS)
        self.rectified, self.only_relu = bool(kinds), kinds == {nn.ReLU}

    def layer(self, alias: str, module: nn.Module | None = None) -> nn.Module:
        """Return the layer of that alias, in `module`."""
        return (module or self.module).get_submodule(self.net.layers[alias])

    def activation(self, alias: str) -> Tensor:
        """Return that layer's activation (N, C, h, w)."""
        kept: list[Tensor] = []
        hook = self.layer(alias).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        self.module(self.x)
        hook.remove()
        return self.to_grid(alias)(kept[0])

    def to_grid(self, alias: str) -> Callable[[Tensor], Tensor]:
        """Return what brings that layer's output to (N, C, h, w)."""
        return self.net.to_grid.get(alias, lambda output: output)

    def liveliest(self, alias: str) -> tuple[int, int, int]:
        """Return channel, row and column of the neuron that is most active in both samples."""
        least = self.activation(alias).amin(0)
        channel, row, column = np.unravel_index(int(least.argmax()), least.shape)
        return int(channel), int(row), int(column)

    def saliency(self, rule: Rule | None = None) -> Tensor:
        """Return the gradient of the target, the rectifiers under a rule."""
        module = rewrite(self.module, rule) if rule else self.module
        return Saliency(module).attribute(self.x, self.target, abs=False)


def all_maps(view: View) -> Maps:
    """Yield all maps of one network, and how to ask onnxsal for them."""
    yield from gradients(view)
    yield from neurons(view)
    if view.rectified:
        yield from modified_gradients(view)
    if view.net.cam:
        yield from cams(view, *view.net.cam)
    for alias in view.names:
        yield from pytorch_grad_cams(view, alias)
        if alias not in view.net.to_grid:
            yield from captum_grad_cams(view, alias)


# ----- The gradient and its kin -----


def gradients(view: View) -> Maps:
    """Yield what captum's Saliency and InputXGradient say."""
    x, module, target, other = view.x, view.module, view.target, (view.target + 1) % CLASSES
    yield Case("captum Saliency(abs=False)", "gradient", f"{target}"), view.saliency()
    heat = over_maximum(Saliency(module).attribute(x, target).amax(1))
    peer = "captum Saliency(), the largest of the channels, divided by its maximum"
    yield Case(peer, "gradient", f"{target}", reads="heatmap"), heat
    yield Case("captum InputXGradient()", "grad-x-input", f"{target}"), InputXGradient(module).attribute(x, target)
    probability = Saliency(lambda x: module(x).softmax(1)).attribute(x, target, abs=False)
    yield Case("captum Saliency(abs=False) of the softmax", "gradient", f"prob:{target}"), probability
    contrast = Saliency(lambda x: module(x)[:, target] - module(x)[:, other]).attribute(x, abs=False)
    yield Case("captum Saliency(abs=False) of a difference", "gradient", f"{target}-{other}"), contrast


def modified_gradients(view: View) -> Maps:
    """Yield guided backpropagation and DeconvNet."""
    x, target = view.x, view.target
    for method, kind, rule in (("guided-backprop", GuidedBackprop, guided), ("deconvnet", Deconvolution, deconvnet)):
        found, peer = view.saliency(rule), "torch.autograd, rectifiers by hand"
        if view.only_relu:
            by_hand, peer = found, f"captum {kind.__name__}()"
            found = kind(view.module).attribute(x, target)
            torch.testing.assert_close(by_hand, found, rtol=1e-9, atol=1e-12)
        yield Case(peer, method, f"{target}"), found
        if rule is guided:
            yield Case(f"the input times {peer}", "grad-x-input", f"{target}", settings={"rule": "guided"}), x * found
    if view.only_relu:
        rows = [GuidedBackpropReLUModel(copy.deepcopy(view.module), "cpu")(row[None].clone(), target) for row in x]
        peer = "pytorch-grad-cam GuidedBackpropReLUModel()"
        yield Case(peer, "guided-backprop", f"{target}"), torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)


def neurons(view: View) -> Maps:
    """Yield gradients of one neuron, and of a channel's sum: behind a rectifier (`early`), and before (`inner`)."""
    for alias in [name for name in ("early", "inner") if name in view.names] or ["last"]:
        number, row, column = view.liveliest(alias)
        here, channel = selectors(view.to_grid(alias), number, row, column)
        target = f"layer:{view.names[alias]},channel={number}"
        at = f"{target},at={row},{column}"
        gradient = NeuronGradient(view.module, view.layer(alias))
        yield Case(f"captum NeuronGradient(), {alias}", "gradient", at), gradient.attribute(view.x, here)
        peer = f"captum NeuronGradient(), {alias}, a channel's sum"
        yield Case(peer, "gradient", target), gradient.attribute(view.x, channel)
        if view.rectified:
            yield from modified_neurons(view, alias, at, here)


def selectors(to_grid: Callable[[Tensor], Tensor], number: int, row: int, column: int) -> tuple[Selector, Selector]:
    """Return what takes one neuron of each sample, and the sum of its channel, from a layer's output."""
    return (
        lambda output: to_grid(output)[:, number, row, column],
        lambda output: to_grid(output)[:, number].sum((1, 2)),
    )


def modified_neurons(view: View, alias: str, at: str, here: Selector) -> Maps:
    """Yield guided backpropagation and DeconvNet of one neuron, which is what they were invented for."""
    both = (("guided-backprop", NeuronGuidedBackprop, guided), ("deconvnet", NeuronDeconvolution, deconvnet))
    for method, kind, rule in both:
        if view.only_relu:
            found, peer = kind(view.module, view.layer(alias)).attribute(view.x, here), f"captum {kind.__name__}()"
        else:
            changed = rewrite(view.module, rule)
            found = NeuronGradient(changed, view.layer(alias, changed)).attribute(view.x, here)
            peer = "torch.autograd, rectifiers by hand"
        yield Case(f"{peer}, {alias}", method, at), found


# ----- Class activation maps -----


def cams(view: View, layer: str, linear: str) -> Maps:
    """Yield the linear layer's weights times the activations."""
    weights = view.module.get_submodule(linear).weight[view.target]
    found = torch.einsum("c,nchw->nhw", weights, view.activation(layer))
    yield Case("torch, weights times activations", "cam", f"{view.target}"), found


def captum_grad_cams(view: View, alias: str) -> Maps:
    """Yield captum's Grad-CAM and Guided Grad-CAM at a layer; onnxsal chooses `last` itself."""
    x, target, name = view.x, f"{view.target}", view.names[alias]
    grad_cam = LayerGradCam(view.module, view.layer(alias))
    signed = grad_cam.attribute(x, view.target)[:, 0]
    yield Case(f"captum LayerGradCam(), {alias}", "grad-cam", target, name, {"relu": False}), signed
    positive = grad_cam.attribute(x, view.target, relu_attributions=True)
    peer = f"captum LayerGradCam(relu_attributions=True), {alias}"
    yield Case(peer, "grad-cam", target, None if alias == "last" else name), positive[:, 0]
    large = LayerAttribution.interpolate(positive, SIZE, "bilinear")
    peer = f"{peer}, enlarged bilinearly, divided by its maximum"
    yield Case(peer, "grad-cam", target, name, reads="heatmap"), over_maximum(large[:, 0])
    if view.only_relu:
        product = GuidedGradCam(view.module, view.layer(alias)).attribute(x, view.target, interpolate_mode="bilinear")
        peer = f"captum GuidedGradCam(interpolate_mode=bilinear), {alias}"
    else:
        product = large * view.saliency(guided)
        peer = f"captum LayerGradCam(), {alias}, times torch.autograd, rectifiers by hand"
    yield Case(peer, "guided-grad-cam", target, name), product


def pytorch_grad_cams(view: View, alias: str) -> Maps:
    """Yield pytorch-grad-cam's map as it is weighted and summed, and as it is handed out."""
    kept: list[Floats] = []

    class Keeping(GradCAM):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Floats:
            kept.append(super().get_cam_image(*args, **kwargs))
            return kept[-1].copy()

    transform = view.net.to_grid.get(alias)
    with Keeping(view.module, [view.layer(alias)], reshape_transform=transform) as cam:
        scaled = cam(view.x, [ClassifierOutputTarget(view.target)] * len(view.x))
    peer, target, name = f"pytorch-grad-cam GradCAM(), {alias}", f"{view.target}", view.names[alias]
    yield Case(f"{peer}, before it scales", "grad-cam", target, name, {"relu": False}), torch.from_numpy(kept[0])
    yield Case(peer, "grad-cam", target, name, reads="min-max heatmap"), torch.from_numpy(scaled)


def over_maximum(heat: Tensor) -> Tensor:
    """Divide each map by its maximum."""
    return heat / heat.amax((1, 2), keepdim=True)
