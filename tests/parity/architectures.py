"""The architectures whose gradients are frozen, built by torch; `freeze.py` alone reads this.

Each is torchvision's own module code. Heads have ten classes, and a few are cut short where
depth or width adds seconds and repeats what is already there: the block is what is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig as Stage

CLASSES = 10


@dataclass(frozen=True)
class Architecture:
    """What to build, and the input and gain that keep its activations of order 1."""

    build: Callable[[], nn.Module]
    size: int = 64
    gain: float = 1.0


class Double(nn.Sequential):
    """Two 3 x 3 convolutions, as U-Net's."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build it from `inputs` channels to `outputs`."""
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.LeakyReLU(0.1),
        )


class UNet(nn.Module):
    """A small U-Net: one level up by a transposed convolution, one by bilinear resize."""

    def __init__(self) -> None:
        """Build it with three levels."""
        super().__init__()
        self.top, self.middle, self.bottom = Double(3, 16), Double(16, 32), Double(32, 64)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.after_up, self.after_resize = Double(64, 32), Double(48, 16)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 3, H, W) of x (N, 3, H, W)."""
        top = self.top(x)
        middle = self.middle(nn.functional.max_pool2d(top, 2))
        bottom = self.bottom(nn.functional.max_pool2d(middle, 2))
        middle = self.after_up(torch.cat([middle, self.up(bottom)], 1))
        larger = nn.functional.interpolate(middle, scale_factor=2, mode="bilinear", align_corners=False)
        scores: Tensor = self.head(self.after_resize(torch.cat([top, larger], 1)))
        return scores


def vgg11_bn() -> nn.Module:
    """Return VGG-11 with 2 x 2 features and a narrow classifier: the real one is 500 MB."""
    model = zoo.vgg11_bn(num_classes=CLASSES)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(nn.Linear(512 * 4, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, CLASSES))
    return model


def vit() -> nn.Module:
    """Return torchvision's VisionTransformer at CIFAR size; its zero-initialised head is refilled."""
    return zoo.VisionTransformer(
        image_size=64, patch_size=16, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=256, num_classes=CLASSES
    )


def swin() -> nn.Module:
    """Return a Swin with shifted windows in two stages."""
    return zoo.SwinTransformer(
        patch_size=[4, 4], embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=CLASSES
    )


def convnext() -> nn.Module:
    """Return ConvNeXt-Tiny's stages at a third of its width, with fewer blocks in each."""
    stages = [Stage(32, 64, 2), Stage(64, 128, 2), Stage(128, 256, 3), Stage(256, None, 1)]
    return zoo.ConvNeXt(stages, num_classes=CLASSES)


ARCHITECTURES = {
    "resnet18": Architecture(partial(zoo.resnet18, num_classes=CLASSES)),
    "resnet50": Architecture(partial(zoo.resnet50, num_classes=CLASSES), gain=0.5),
    "vgg11_bn": Architecture(vgg11_bn),
    "mobilenet_v2": Architecture(partial(zoo.mobilenet_v2, num_classes=CLASSES)),
    "mobilenet_v3_small": Architecture(partial(zoo.mobilenet_v3_small, num_classes=CLASSES)),
    "densenet121": Architecture(partial(zoo.densenet121, num_classes=CLASSES)),
    "squeezenet1_1": Architecture(partial(zoo.squeezenet1_1, num_classes=CLASSES)),
    "shufflenet_v2_x0_5": Architecture(partial(zoo.shufflenet_v2_x0_5, num_classes=CLASSES), gain=0.8),
    "googlenet": Architecture(partial(zoo.googlenet, num_classes=CLASSES, aux_logits=False, init_weights=False)),
    "inception_v3": Architecture(
        partial(zoo.inception_v3, num_classes=CLASSES, aux_logits=False, init_weights=False), size=80
    ),
    "convnext": Architecture(convnext),
    "vit": Architecture(vit),
    "efficientnet_b0": Architecture(partial(zoo.efficientnet_b0, num_classes=CLASSES), gain=1.1),
    "regnet_y_400mf": Architecture(partial(zoo.regnet_y_400mf, num_classes=CLASSES), gain=0.8),
    "mnasnet0_5": Architecture(partial(zoo.mnasnet0_5, num_classes=CLASSES)),
    "swin": Architecture(swin),
    "unet": Architecture(UNet),
}
