"""The small torch networks on which methods are compared with other libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZE = (24, 32)
CLASSES = 5


@dataclass(frozen=True)
class Net:
    """A network, and what of it is compared.

    Attributes:
        build: Makes the module.
        exporter: Which of torch's exporters writes its ONNX file.
        layers: Name of a module by alias: `last` is what Grad-CAM takes by default, `early` stands behind a
            rectifier, `inner` before one.
        target: The class that is explained; one whose Grad-CAM is positive somewhere.
        gain: Of its weights, see `weights.weight`.
        softmax: Whether the file ends with a softmax; the module never does.
        cam: The layer that is averaged, and the linear layer behind it; None where the head is another.
        to_grid: By alias, what brings a layer of tokens or windows to (N, C, h, w).
        options: More arguments of `torch.onnx.export`.
    """

    build: Callable[[], nn.Module]
    exporter: str
    layers: dict[str, str]
    target: int
    gain: float = 1
    softmax: bool = False
    cam: tuple[str, str] | None = None
    to_grid: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    options: tuple[tuple[str, object], ...] = ()


class Residual(nn.Module):
    """Conv-BatchNorm-ReLU, overlapping max-pooling, a residual block with a stride, global average, linear."""

    def __init__(self) -> None:
        """Every ReLU is a module of its own and not in place: captum sees no others."""
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 8, 5, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        self.conv3, self.bn3 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.skip, self.relu3 = nn.Conv2d(8, 12, 1, 2), nn.ReLU()
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(x)))))
        x = self.relu3(y + self.skip(x))
        return self.fc(x.mean((2, 3)))


class Rectifiers(nn.Module):
    """ReLU6, LeakyReLU, PReLU, a depthwise convolution, average pooling, and a pre-activation residual block."""

    def __init__(self) -> None:
        """The block's input is read by its ReLU and by its addition."""
        super().__init__()
        self.conv1, self.relu6 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6()
        self.depthwise, self.leaky = nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.LeakyReLU(0.1)
        self.conv2, self.prelu, self.pool = nn.Conv2d(8, 12, 3, padding=1), nn.PReLU(12), nn.AvgPool2d(2)
        self.relu1, self.conv3, self.relu2 = nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        # Enlarged, so that some values lie beyond 6.
        x = self.leaky(self.depthwise(self.relu6(6 * self.conv1(x))))
        x = self.pool(self.prelu(self.conv2(x)))
        x = self.relu2(x + self.conv3(self.relu1(x)))
        return self.fc(x.mean((2, 3)))


class Vgg(nn.Module):
    """Convolutions and max-poolings, then two linear layers with dropout on the flattened map."""

    def __init__(self) -> None:
        """As VGG names its parts."""
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        cells = SIZE[0] // 4 * (SIZE[1] // 4)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(12 * cells, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(torch.flatten(self.features(x), 1))


def vit() -> nn.Module:
    """Return timm's vision transformer: a class token and 3 x 4 patches."""
    return VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=CLASSES
    )


def without_class_token(tokens: Tensor) -> Tensor:
    """Return (N, 1 + 3 * 4, C) as (N, C, 3, 4)."""
    return tokens[:, 1:].reshape(len(tokens), 3, 4, -1).permute(0, 3, 1, 2)


def swin() -> nn.Module:
    """Return timm's Swin: 12 x 16 patches, then 6 x 8, in windows of 4 x 4 that the second of two blocks shifts."""
    return SwinTransformer(
        img_size=SIZE,
        patch_size=2,
        embed_dim=8,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        mlp_ratio=2,
        num_classes=CLASSES,
    )


def channels_first(activation: Tensor) -> Tensor:
    """Return (N, h, w, C) as (N, C, h, w)."""
    return activation.permute(0, 3, 1, 2)


def swin_tokens(tokens: Tensor) -> Tensor:
    """Return (N, 6 * 8, C) as (N, C, 6, 8)."""
    return channels_first(tokens.reshape(len(tokens), 6, 8, -1))


def shifted_windows(windows: Tensor) -> Tensor:
    """Return (N * 4, 16, C) as (N, C, 6, 8): windows of 8 x 8 cells, the lowest two rows padding, shifted by 2."""
    cells = windows.reshape(-1, 2, 2, 4, 4, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    return channels_first(torch.roll(cells[:, :6], (2, 2), (1, 2)))


KEEP_BATCH_NORM = (("training", torch.onnx.TrainingMode.PRESERVE), ("do_constant_folding", False))

NETS = {
    "residual": Net(
        Residual,
        "torchscript",
        {"last": "relu3", "early": "relu1", "inner": "bn2"},
        target=3,
        cam=("last", "fc"),
        options=KEEP_BATCH_NORM,
    ),
    "rectifiers": Net(
        Rectifiers,
        "dynamo",
        {"last": "relu2", "early": "leaky", "inner": "conv2"},
        target=0,
        gain=0.8,  # keeps the softmax from saturating
        cam=("last", "fc"),
    ),
    "vgg": Net(
        Vgg,
        "torchscript",
        {"last": "features.7", "early": "features.4", "inner": "features.5"},
        target=2,
        softmax=True,
    ),
    "vit": Net(vit, "dynamo", {"last": "blocks.1.norm1"}, target=2, to_grid={"last": without_class_token}),
    "swin": Net(
        swin,
        "dynamo",
        {"last": "layers.1.blocks.1.norm1", "early": "layers.1.blocks.1.attn.proj", "inner": "layers.1.blocks.0.norm2"}
        | {"final": "norm"},
        target=2,
        cam=("final", "head.fc"),
        to_grid={
            "last": channels_first,
            "early": shifted_windows,
            "inner": swin_tokens,
            "final": channels_first,
        },
    ),
}
