"""Guided backpropagation and DeconvNet by torch.autograd, for every rectifier torch has as a module.

captum and pytorch-grad-cam know `nn.ReLU` only; `freeze_methods.py` checks that on those this is the same.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Rule = Callable[[Tensor, Tensor], Tensor]
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU)


def guided(g: Tensor, derivative: Tensor) -> Tensor:
    """Return what is positive, times the derivative (Springenberg et al. 2015, arXiv:1412.6806, section 3.4)."""
    return g.clamp(min=0) * derivative


def deconvnet(g: Tensor, _derivative: Tensor) -> Tensor:
    """Return what is positive (Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1)."""
    return g.clamp(min=0)


def rewrite(module: nn.Module, rule: Rule) -> nn.Module:
    """Return a copy of `module` with every rectifier under the rule."""
    result = copy.deepcopy(module)
    for parent in list(result.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RECTIFIERS):
                setattr(parent, name, Rewritten(child, rule))
    return result


class Rewritten(nn.Module):
    """A rectifier under a rule."""

    def __init__(self, rectifier: nn.Module, rule: Rule) -> None:
        """Wrap `rectifier`."""
        super().__init__()
        self.rectifier, self.rule = rectifier, rule

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectifier's output."""
        return Rectify.apply(x, self.rectifier, self.rule)


class Rectify(torch.autograd.Function):
    """A rectifier whose cotangent is what a rule makes of the arriving one and the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rectifier: nn.Module, rule: Rule) -> Tensor:
        """Return the rectifier's output."""
        ctx.save_for_backward(x)
        ctx.rectifier, ctx.rule = rectifier, rule
        return rectifier(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """Return the modified cotangent."""
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            (derivative,) = torch.autograd.grad(ctx.rectifier(x).sum(), x)
        return ctx.rule(g, derivative), None, None
