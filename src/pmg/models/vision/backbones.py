"""What the scorer and the judge look at drawings with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

OCTAVES = 6  # finest wave of the colour code: 8 levels of 255
PALETTE = 128


class ColourBranch(nn.Sequential):
    """A drawing's palette as `(B, PALETTE)`: pixels one by one, as waves of rising frequency (Tancik et al. 2020)."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3 * (1 + 2 * OCTAVES), PALETTE, 1), nn.GELU(),
                         nn.Conv2d(PALETTE, PALETTE, 1), nn.GELU())  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [-1, 1]; every other pixel as it is: an average would mix colours."""
        return super().forward(colour_waves(images[:, :, ::2, ::2])).mean((2, 3))


class TextureBranch(nn.Sequential):
    """The finish of edges and areas at full resolution, `(B, PALETTE)`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, PALETTE, 3, stride=2, padding=1), nn.BatchNorm2d(PALETTE), nn.ReLU(),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [-1, 1]."""
        return super().forward(images).mean((2, 3))


class HistogramBranch(nn.Sequential):
    """How much of each exact colour, `(B, width)`.

    Args:
        bins: levels a channel.
        width: of the vector.
    """

    def __init__(self, bins: int, width: int) -> None:
        # dropout: an image shares few of its exact colours with others of its artist
        super().__init__(nn.Dropout(0.4), nn.Linear(bins**3, width), nn.GELU())
        self.bins = bins

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [-1, 1]."""
        return super().forward(colour_histogram(images, self.bins))


class DrawingEncoder(nn.Module):
    """Shape, colour and texture of a drawing as one vector.

    A residual network (He et al. 2015) starts by shrinking the image, which blurs what tells two artists apart:
    their exact palette and the finish of their edges. So shallow branches look at full resolution.

    Args:
        widths: channels of the residual network's stages.
        depths: blocks of each stage.
        bins: levels a channel of a colour histogram that joins the branches; 0 leaves it out.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], bins: int = 0) -> None:
        super().__init__()
        config = ResNetConfig(
            embedding_size=widths[0], hidden_sizes=list(widths), depths=list(depths), layer_type="basic"
        )
        self.shape = ResNetModel(config)
        self.colour, self.texture = ColourBranch(), TextureBranch()
        self.histogram = HistogramBranch(bins, 2 * PALETTE) if bins else None
        self.norm = nn.BatchNorm1d(widths[-1] + (4 if bins else 2) * PALETTE)

    @property
    def width(self) -> int:
        """Width of the vector."""
        return self.norm.num_features

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [-1, 1] to `(B, width)`."""
        parts = [self.shape(images).pooler_output.flatten(1), self.colour(images), self.texture(images)]
        if self.histogram is not None:
            parts.append(self.histogram(images))
        return self.norm(torch.cat(parts, dim=1).float())


def colour_waves(images: Tensor) -> Tensor:
    """Colours `(B, 3, H, W)` in [-1, 1] with sines and cosines of them, `(B, 3 + 6 * OCTAVES, H, W)`."""
    angles = [images * (math.pi * 2**octave / 2) for octave in range(OCTAVES)]
    return torch.cat([images, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], dim=1)


def colour_histogram(images: Tensor, bins: int) -> Tensor:
    """Square roots of each colour's share of images `(B, 3, H, W)` in [-1, 1]: `(B, bins ** 3)` of norm `bins ** 1.5`.

    The square root tames the white ground, which is half of every drawing.
    """
    level = ((images.float() + 1) / 2 * bins).long().clamp(0, bins - 1)
    place = ((level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]).flatten(1)
    counts = torch.zeros(len(images), bins**3, device=images.device)
    counts.scatter_add_(1, place, torch.ones_like(place, dtype=counts.dtype))
    return (counts / place.shape[1]).sqrt() * bins**1.5
