"""What captum, PAIR's saliency, TorchRay and RISE's authors say of one network, given onnxsal's noise and masks.

How each is told of them, and where they differ, is in the header of `freeze_perturbation.py`.
"""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchray.attribution.rise as torchray_rise
from captum.attr import (
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from parity.methods_cases import Case, Floats
from saliency import core as pair
from torch import Tensor, nn
from torchray.attribution.deconvnet import deconvnet
from torchray.attribution.grad_cam import grad_cam
from torchray.attribution.gradient import gradient
from torchray.attribution.guided_backprop import guided_backprop

from onnxsal.sampling.designs import Independent
from onnxsal.sampling.enlarging import Edges
from onnxsal.sampling.masks import Draws, rise_space
from onnxsal.sampling.streams import Purpose, normals

Maps = Iterator[tuple[Case, Tensor | Floats]]
SEED = 3
QUADRATURES = {
    "gausslegendre": "gauss-legendre",
    "riemann_left": "riemann-left",
    "riemann_right": "riemann-right",
    "riemann_middle": "riemann-middle",
    "riemann_trapezoid": "trapezoid",
}


class View:
    """A network and its input.

    Attributes:
        module: As it was trained: it gives logits.
        file: As the ONNX file ends: with a softmax, or not.
        last: The layer that Grad-CAM takes by default, a name within `module`.
        x: The input, (2, 3, H, W).
        target: The class that is explained.
        softmax: Whether the file ends with a softmax.
    """

    def __init__(self, module: nn.Module, last: str, x: Tensor, target: int, *, softmax: bool) -> None:
        """Look at it."""
        self.module, self.last, self.x, self.target, self.softmax = module, last, x, target, softmax
        self.file = nn.Sequential(module, nn.Softmax(1)).eval() if softmax else module

    def each(self, explain: Callable[[Tensor], Tensor | Floats]) -> Tensor:
        """Return what each image gets by itself: to each its peer adds the same noise, as onnxsal does."""
        return torch.cat([torch.as_tensor(explain(row[None])) for row in self.x])

    def case(self, peer: str, method: str, reads: Any = "attribution", **settings: Any) -> Case:
        """Return how to ask onnxsal for the same."""
        return Case(peer, method, f"{self.target}", settings=settings, reads=reads)


def white_box(view: View) -> Maps:
    """Yield maps of one network that need its gradient, and how to ask onnxsal for them."""
    yield from captum_presets(view)
    yield from captum_noise(view)
    yield from captum_paths(view)
    yield from pairs(view)
    yield from torchrays(view)


def black_box(view: View, eclique: Path) -> Maps:
    """Yield maps that need none; `eclique` is the file of RISE's authors."""
    yield from occlusions(view)
    yield from rises(view, eclique)


# ----- Noise -----


def noise(number: int, shape: tuple[int, ...]) -> Floats:
    """Return onnxsal's noise of one index, its deviation 1."""
    return normals(SEED, Purpose.NOISE, number, shape)


def tunnelled(view: View, base: Any, count: int, kind: str, *, relative: bool = True, **given: Any) -> Tensor:
    """Return captum's NoiseTunnel with onnxsal's noise; not `relative`, with its own number and deviation."""
    drawn = torch.from_numpy(np.concatenate([noise(i, (1, *view.x.shape[1:])) for i in range(count)]))

    def explain(row: Tensor) -> Tensor:
        told = {"nt_samples": count, "stdevs": of_range(row)} if relative else {}
        with mock.patch.object(torch, "normal", lambda _mean, deviations: deviations * drawn.to(deviations)):
            return NoiseTunnel(base).attribute(row, nt_type=kind, target=view.target, **told, **given)

    return view.each(explain)


def of_range(row: Tensor) -> float:
    """Return 15 % of the range of an image's values, as captum has to be told."""
    return 0.15 * float(row.max() - row.min())


def captum_noise(view: View) -> Maps:
    """Yield SmoothGrad, its variants, other bases, and captum's own defaults."""
    saliency, module = Saliency(view.module), view.module
    for kind, variant in (("smoothgrad", "mean"), ("smoothgrad_sq", "squared"), ("vargrad", "variance")):
        found = tunnelled(view, saliency, 10, kind, abs=False)
        case = view.case(f"captum NoiseTunnel(Saliency), {kind}", "smoothgrad", samples=10, seed=SEED, variant=variant)
        yield case, found
    found = tunnelled(view, saliency, 10, "smoothgrad", abs=True)
    peer = "captum NoiseTunnel(Saliency(abs=True))"
    yield view.case(peer, "smoothgrad", samples=10, seed=SEED, absolute=True), found
    layer = module.get_submodule(view.last)
    for base, name, given in (
        (InputXGradient(module), "grad-x-input", {}),
        (GuidedBackprop(module), "guided-backprop", {}),
        (LayerGradCam(module, layer), "grad-cam", {"relu_attributions": True}),
    ):
        found = tunnelled(view, base, 10, "smoothgrad", **given)
        peer = f"captum NoiseTunnel({type(base).__name__})"
        yield (
            view.case(peer, "smoothgrad", samples=10, seed=SEED, base=name),
            found[:, 0] if name == "grad-cam" else found,
        )
    own = tunnelled(view, saliency, 5, "smoothgrad", relative=False)
    yield view.case("captum NoiseTunnel(Saliency) as it comes", "smoothgrad", like="captum", seed=SEED), own
    own = tunnelled(view, LayerGradCam(module, layer), 5, "smoothgrad", relative=False)
    case = view.case("captum NoiseTunnel(LayerGradCam)", "smoothgrad", like="captum", seed=SEED, base="grad-cam")
    yield case, own[:, 0]


# ----- The presets of methods of one run -----


def captum_presets(view: View) -> Maps:
    """Yield captum's own defaults."""
    x, module, target = view.x, view.module, view.target
    layer = module.get_submodule(view.last)
    yield view.case("captum Saliency()", "gradient", like="captum"), Saliency(module).attribute(x, target)
    cam = LayerGradCam(module, layer).attribute(x, target)
    yield view.case("captum LayerGradCam()", "grad-cam", like="captum"), cam[:, 0]
    guided = GuidedGradCam(module, layer).attribute(x, target)
    yield view.case("captum GuidedGradCam()", "guided-grad-cam", like="captum"), guided


# ----- Paths -----


def captum_paths(view: View) -> Maps:
    """Yield Integrated Gradients by every rule of captum's, and as it comes."""
    explain = IntegratedGradients(view.module)
    for theirs, ours in QUADRATURES.items():
        found = explain.attribute(view.x, 0.2, view.target, n_steps=12, method=theirs)
        if ours == "trapezoid":  # its shares sum to 11 / 12
            found = found * 12 / 11
        peer = f"captum IntegratedGradients(), {theirs}"
        yield view.case(peer, "integrated-gradients", steps=12, quadrature=ours, baseline="0.2"), found
    own = explain.attribute(view.x, target=view.target)
    yield view.case("captum IntegratedGradients() as it comes", "integrated-gradients", like="captum"), own


# ----- Occlusion -----


def occlusions(view: View) -> Maps:
    """Yield captum's and PAIR's; of the whole photo's colours at once."""
    explain = Occlusion(view.file)
    for window, stride in ((7, 3), (9, 1)):
        found = explain.attribute(view.x, (3, window, window), (3, stride, stride), target=view.target)
        given = {} if stride == 1 else {"stride": stride}
        case = view.case(f"captum Occlusion(), stride {stride}", "occlusion", like="captum", window=window, **given)
        yield case, found[:, 0]

    def by_pair(row: Tensor) -> Floats:
        def answer(batch: Floats, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Floats]:
            x = torch.from_numpy(batch).permute(0, 3, 1, 2)
            with torch.no_grad():
                return {pair.OUTPUT_LAYER_VALUES: view.file(x)[:, view.target].numpy()}

        return pair.Occlusion().GetMask(last(row), answer)[None, :, :, 0]

    yield view.case("PAIR Occlusion() as it comes", "occlusion", like="pair"), view.each(by_pair)


def last(row: Tensor) -> Floats:
    """Return one image (1, 3, H, W) as (H, W, 3)."""
    return row[0].permute(1, 2, 0).numpy()


# ----- PAIR -----


def pairs(view: View) -> Maps:
    """Yield PAIR's SmoothGrad, squared as it comes and plain, its Integrated Gradients and its Grad-CAM."""

    def gradients(batch: Floats, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Floats]:
        x = torch.from_numpy(np.asarray(batch)).permute(0, 3, 1, 2).to(view.x).requires_grad_()
        found = torch.autograd.grad(view.module(x)[:, view.target].sum(), x)[0]
        return {pair.INPUT_OUTPUT_GRADIENTS: found.permute(0, 2, 3, 1).numpy()}

    def smooth(row: Tensor, **given: Any) -> Floats:
        number = iter(range(1000))

        def drawn(_mean: float, deviation: float, _shape: tuple[int, ...]) -> Floats:
            return deviation * noise(next(number), tuple(row.shape))[0].transpose(1, 2, 0)

        with mock.patch.object(np.random, "normal", drawn):
            found = pair.GradientSaliency().GetSmoothedMask(last(row), gradients, **given)
        return found.transpose(2, 0, 1)[None]

    peer = "PAIR GetSmoothedMask()"
    yield view.case(f"{peer} as it comes", "smoothgrad", like="pair", seed=SEED), view.each(smooth)
    plain = view.each(lambda row: smooth(row, magnitude=False))
    yield view.case(f"{peer}, no magnitude", "smoothgrad", like="pair", seed=SEED, variant="mean"), plain
    own = view.each(lambda row: pair.IntegratedGradients().GetMask(last(row), gradients).transpose(2, 0, 1)[None])
    yield view.case("PAIR IntegratedGradients() as it comes", "integrated-gradients", like="pair"), own
    yield view.case("PAIR GradCam(), not enlarged", "grad-cam", like="pair"), view.each(lambda row: pair_cam(view, row))


def pair_cam(view: View, row: Tensor) -> Floats:
    """Return PAIR's Grad-CAM at the layer's own resolution."""

    def answer(batch: Floats, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Floats]:
        kept: list[Tensor] = []
        layer = view.module.get_submodule(view.last)
        hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        out = view.module(torch.from_numpy(np.asarray(batch)).permute(0, 3, 1, 2))
        hook.remove()
        found = torch.autograd.grad(out[:, view.target].sum(), kept[0])[0]
        names = (pair.CONVOLUTION_LAYER_VALUES, pair.CONVOLUTION_OUTPUT_GRADIENTS)
        return {n: t.detach().permute(0, 2, 3, 1).numpy() for n, t in zip(names, (kept[0], found), strict=True)}

    found = pair.GradCam().GetMask(last(row), answer, should_resize=False, three_dims=False)
    return np.asarray(found)[None]


# ----- TorchRay -----


def torchrays(view: View) -> Maps:
    """Yield TorchRay's methods of one run, as it comes; a map of its own is the largest magnitude of the channels."""
    for kind, method in ((gradient, "gradient"), (deconvnet, "deconvnet"), (guided_backprop, "guided-backprop")):
        found = view.each(lambda row, kind=kind: over_maximum(kind(view.module, row, view.target).detach()[:, 0]))
        yield view.case(f"TorchRay {method}, over its maximum", method, "heatmap", like="torchray"), found
    found = view.each(lambda row: grad_cam(view.module, row, view.target, saliency_layer=view.last).detach()[:, 0])
    yield view.case("TorchRay grad_cam()", "grad-cam", like="torchray"), found


def over_maximum(heat: Tensor) -> Tensor:
    """Return each sample's map (N, H, W) over its maximum."""
    return heat / heat.amax((1, 2), keepdim=True)


# ----- Masks -----


def rises(view: View, eclique: Path) -> Maps:
    """Yield RISE by its authors' code and by TorchRay's, whose random numbers are onnxsal's."""
    height, width = view.x.shape[2:]
    for keep in (0.5, 0.2):
        given = {"samples": 40, "cells": 6, "keep": keep, "seed": SEED}
        draws = drawn((height, width), 6, keep, "bilinear", 40)
        found = view.each(lambda row, d=draws, k=keep: by_authors(view, row, d, k, eclique)[view.target][None])
        yield view.case(f"eclique/RISE, p1={keep}", "rise", like="eclique", **given), found
    given = {"samples": 40, "cells": 5, "seed": SEED}
    draws = drawn((height, width), 5, 0.5, "padded", 40)
    found = view.each(lambda row: by_torchray(view, row, draws)[view.target][None])
    yield view.case("TorchRay rise()", "rise", like="torchray", **given), found


def drawn(size: tuple[int, int], cells: int, keep: float, edges: Edges, count: int) -> Draws:
    """Return onnxsal's cells and shifts."""
    space = rise_space((0, 0, size[1], size[0]), size, (cells, cells), edges)
    return Independent(space, SEED, keep).draw(0, count)


def by_authors(view: View, row: Tensor, draws: Draws, keep: float, eclique: Path) -> Tensor:
    """Return what RISE's authors' own file says of all classes, (K, H, W)."""
    spec = importlib.util.spec_from_file_location("eclique_explanations", eclique)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    # Cells stay where a number is below p1; then, mask by mask, the shift down and the shift right.
    numbers = np.where(draws.cells == 1, 0.0, 1.0)
    shifts = np.stack([draws.y, draws.x], axis=1).ravel().tolist()
    module = view.file if view.softmax else nn.Sequential(view.module, nn.Softmax(1)).eval()
    explainer = theirs.RISE(module, tuple(row.shape[2:]))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        rand = mock.patch.object(np.random, "rand", return_value=numbers)
        randint = mock.patch.object(np.random, "randint", side_effect=shifts)
        with rand, randint, contextlib.redirect_stderr(open(os.devnull, "w")):
            explainer.generate_masks(len(draws), draws.cells.shape[1], keep, str(Path(folder) / "masks.npy"))
        return explainer(row.float())


def by_torchray(view: View, row: Tensor, draws: Draws) -> Tensor:
    """Return what TorchRay says of all classes, (K, H, W)."""
    numbers = torch.where(torch.from_numpy(draws.cells) == 1, 0.0, 1.0)[:, None]
    rand = mock.patch.object(torch, "rand", return_value=numbers)
    randint = mock.patch.object(torch, "randint", side_effect=[torch.from_numpy(draws.y), torch.from_numpy(draws.x)])
    count, cells = draws.cells.shape[:2]
    with rand, randint:
        return torchray_rise.rise(view.file, row, num_masks=count, num_cells=cells, batch_size=count)[0]
