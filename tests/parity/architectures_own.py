"""Small networks with what packaged ones seldom have: recurrences, samplers, mixtures of axes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

CLASSES = 10


class Stem(nn.Sequential):
    """Two convolutions: (N, 3, H, W) to (N, `outputs`, H/4, W/4)."""

    def __init__(self, outputs: int) -> None:
        """Build it."""
        super().__init__(
            nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, outputs, 3, 2, 1), nn.Tanh()
        )


class Recurrent(nn.Module):
    """Reads the columns of a convolutional map one after another, as text recognisers do.

    The recurrence's weights are the exporter's to transpose and reorder, so they hold constants, not names.
    """

    def __init__(self, kind: type[nn.RNNBase], **settings: object) -> None:
        """Build it with a recurrence of that kind."""
        super().__init__()
        self.stem = Stem(16)
        self.recurrence = kind(16, 12, batch_first=True, **settings)
        self.head = nn.Linear(24 if settings.get("bidirectional") else 12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, W/4, 10)."""
        columns = self.stem(x).mean(2).transpose(1, 2)
        scores: Tensor = self.head(self.recurrence(columns)[0])
        return scores


class SpatialTransformer(nn.Module):
    """Looks at the image through an affine window that it chooses itself."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__()
        self.locate = nn.Sequential(Stem(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6))
        self.classify = nn.Sequential(Stem(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 10)."""
        nearly_whole = torch.tensor([0.9, 0.0, 0.03, 0.0, 0.9, 0.02], dtype=x.dtype)
        theta = (nearly_whole + 0.1 * self.locate(x)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        scores: Tensor = self.classify(F.grid_sample(x, grid, align_corners=False, padding_mode="border"))
        return scores


class Deformable(nn.Module):
    """A convolution that chooses where to look, and how strongly (DCNv2)."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__()
        self.stem, self.offset = Stem(16), nn.Conv2d(16, 18, 3, padding=1)
        self.mask, self.deform = nn.Conv2d(16, 9, 3, padding=1), DeformConv2d(16, 24, 3, padding=1)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 10)."""
        x = self.stem(x)
        x = self.deform(x, 0.5 * self.offset(x), self.mask(x).sigmoid())
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


class Mixture(nn.Module):
    """Einsum over channels and cells, pixel shuffle and unshuffle, adaptive pooling to odd sizes, GLU, PReLU."""

    def __init__(self) -> None:
        """Build it."""
        super().__init__()
        self.down, self.first, self.prelu = nn.PixelUnshuffle(4), nn.Conv2d(48, 32, 1), nn.PReLU(32)
        self.mix = nn.Parameter(torch.zeros(4, 8, 8))
        self.second, self.head = nn.Conv2d(8, 16, 3, padding=1), nn.Linear(8 * 9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, 10)."""
        x = self.prelu(self.first(self.down(x)))
        heads = x.unflatten(1, (4, 8))
        x = torch.einsum("nhcyx,hcd->nhdyx", heads, self.mix).flatten(1, 2)
        x = F.pixel_shuffle(x, 2)
        x = F.glu(self.second(x), 1)
        scores: Tensor = self.head(F.normalize(F.adaptive_avg_pool2d(x, 3).flatten(1), dim=1))
        return scores
