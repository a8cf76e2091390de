"""The architectures whose gradients are frozen, built by torch; `freeze.py` alone reads this.

Each is torchvision's own module code, or that of transformers, or a small network of our own. Heads
have ten classes, and a few are cut short where depth or width adds seconds and repeats what is already
there: the block is what is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import from_torch
import torch
import torchvision.models as zoo
from parity.architectures_own import Deformable, Mixture, Recurrent, SpatialTransformer
from parity.architectures_transformers import BUILDERS
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig as Stage

CLASSES = 10
LARGER = ("segformer", "mobilevit", "mobilevitv2", "hiera")
"""Those of transformers that are nothing at 32 pixels."""
LATER = {"dinov3": {"dynamo": 23}, "siglip": {"dynamo": 23}}
"""Opsets other than the usual: 23 has Attention."""


@dataclass(frozen=True)
class Architecture:
    """What to build, the input and gain that keep its activations of order 1, and the opsets to export at."""

    build: Callable[[], nn.Module]
    size: int = 64
    gain: float = 1.0
    dynamo: int = from_torch.OPSETS["dynamo"]
    torchscript: int = from_torch.OPSETS["torchscript"]


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


def swin_v2() -> nn.Module:
    """Return torchvision's SwinV2."""
    return zoo.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=32,
        depths=[2, 1],
        num_heads=[2, 4],
        window_size=[4, 4],
        num_classes=CLASSES,
        block=zoo.swin_transformer.SwinTransformerBlockV2,
        downsample_layer=zoo.swin_transformer.PatchMergingV2,
    )


def maxvit() -> nn.Module:
    """Return a MaxViT: attention in blocks, then across a grid."""
    return zoo.MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=2,
        block_channels=[16, 24, 32],
        block_layers=[1, 1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=CLASSES,
    )


def efficientnet_v2() -> nn.Module:
    """Return an EfficientNetV2 of a few blocks: fused inverted bottlenecks, then squeeze and excitation."""
    fused, inverted = zoo.efficientnet.FusedMBConvConfig, zoo.efficientnet.MBConvConfig
    blocks = [fused(1, 3, 1, 16, 16, 1), fused(4, 3, 2, 16, 24, 2), inverted(4, 3, 2, 24, 32, 2)]
    return zoo.EfficientNet(blocks, 0.0, num_classes=CLASSES, last_channel=64)


class Video(nn.Module):
    """A video network on four frames, each the image moved on by some pixels."""

    def __init__(self, model: nn.Module) -> None:
        """Take the network."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 10) of x (N, 3, H, W)."""
        frames = torch.stack([x, x.roll(2, 3), x.roll(-2, 2), x.flip(3)], 2)
        scores: Tensor = self.model(frames)
        return scores


def mvit_v2() -> nn.Module:
    """Return a small MViTv2: pooled attention with decomposed relative positions."""
    block = zoo.video.mvit.MSBlockConfig
    blocks = [
        block(1, 16, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        block(2, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
    ]
    model = zoo.video.MViT(
        (32, 32),
        4,
        blocks,
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=CLASSES,
    )
    for module in model.modules():
        # To a grouped 3-D convolution without a bias the newer exporter gives one of a wrong size.
        if isinstance(module, nn.Conv3d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return Video(model)


class Segmenter(nn.Module):
    """A torchvision segmenter whose scores are its `out`."""

    def __init__(self, model: nn.Module) -> None:
        """Take the segmenter."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 4, H, W) of x (N, 3, H, W)."""
        scores: Tensor = self.model(x)["out"]
        return scores


def resnet_map() -> nn.Module:
    """Return a ResNet-18 as far as its third stage, for segmenters."""
    whole = zoo.resnet18(weights=None)
    return zoo._utils.IntermediateLayerGetter(whole, {"layer3": "out"})


def fcn() -> nn.Module:
    """Return an FCN on a ResNet."""
    return Segmenter(zoo.segmentation.FCN(resnet_map(), zoo.segmentation.fcn.FCNHead(256, 4)))


def deeplabv3() -> nn.Module:
    """Return a DeepLabV3: atrous convolutions at three rates beside a pooled branch."""
    head = zoo.segmentation.deeplabv3.DeepLabHead(256, 4, (2, 4, 6))
    return Segmenter(zoo.segmentation.DeepLabV3(resnet_map(), head))


def lraspp() -> nn.Module:
    """Return an LR-ASPP over MobileNetV3."""
    return Segmenter(zoo.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4))


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
    "swin_v2": Architecture(swin_v2, size=32),
    "maxvit": Architecture(maxvit),
    "efficientnet_v2": Architecture(efficientnet_v2, size=32),
    "mvit_v2": Architecture(mvit_v2, size=32),
    "fcn": Architecture(fcn, size=32),
    "deeplabv3": Architecture(deeplabv3, size=32),
    "lraspp": Architecture(lraspp, size=32, gain=0.7),
    "lstm_head": Architecture(partial(Recurrent, nn.LSTM), size=32),
    "gru_head": Architecture(partial(Recurrent, nn.GRU, bidirectional=True), size=32),
    "rnn_head": Architecture(partial(Recurrent, nn.RNN), size=32),
    "spatial_transformer": Architecture(SpatialTransformer, size=32, torchscript=20),
    "deformable": Architecture(Deformable, size=32),
    "mixture": Architecture(Mixture, size=32),
    **{
        name: Architecture(build, size=64 if name in LARGER else 32, **LATER.get(name, {}))
        for name, build in BUILDERS.items()
    },
}
