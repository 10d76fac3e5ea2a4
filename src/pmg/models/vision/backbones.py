"""Backbones of the scorer and the judge: shape, colour and texture branches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ResNetConfig, ResNetModel

from pmg.models.loading.weight_sources import load_frozen

OCTAVES = 6  # finest wave of the colour code: 8 levels of 255
PALETTE = 128


class EmbeddedModel(PreTrainedModel):
    """A model that `pmg-pretrain` trains or begins with."""

    def _init_weights(self, module: nn.Module) -> None:
        """Keeps torch's initialisation: transformers' standard deviation of 0.02 is too small for shallow branches."""

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Loads a frozen model; PmgError if the folder is missing or damaged."""
        return load_frozen(cls, folder)


class ColourBranch(nn.Sequential):
    """Encodes a palette as `(B, PALETTE)`: the mean of Fourier features of pixels (Tancik et al. 2020).

    Args:
        stride: every how many pixels one is taken, without averaging, which would mix colours.
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__(nn.Conv2d(3 * (1 + 2 * OCTAVES), PALETTE, 1), nn.GELU(),
                         nn.Conv2d(PALETTE, PALETTE, 1), nn.GELU())  # fmt: skip
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images `(B, 3, H, W)` in [-1, 1]."""
        return super().forward(colour_waves(images[:, :, :: self.stride, :: self.stride])).mean((2, 3))


class TextureBranch(nn.Sequential):
    """Encodes texture at full resolution as `(B, out)`."""

    def __init__(self, hidden: int = 32, out: int = PALETTE) -> None:
        super().__init__(
            nn.Conv2d(3, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images `(B, 3, H, W)` in [-1, 1]."""
        return super().forward(images).mean((2, 3))


class ImageEncoder(nn.Module):
    """Encodes an image as one vector: `(B, 3, H, W)` in [-1, 1] as `(B, width)`, normalised by ``norm``."""

    norm: nn.BatchNorm1d

    @property
    def width(self) -> int:
        """Width of the vector."""
        return self.norm.num_features


class DrawingEncoder(ImageEncoder):
    """Encodes shape, colour and texture of an image as one vector.

    A residual network (He et al. 2015) downsamples first, which removes the exact palette and the texture of edges, by
    which artists differ. Shallow branches at full resolution preserve them.

    Args:
        widths: channels of the residual network's stages.
        depths: blocks of each stage.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        config = ResNetConfig(
            embedding_size=widths[0], hidden_sizes=list(widths), depths=list(depths), layer_type="basic"
        )
        self.shape = ResNetModel(config)
        self.colour, self.texture = ColourBranch(), TextureBranch()
        self.norm = nn.BatchNorm1d(widths[-1] + 2 * PALETTE)

    def forward(self, images: Tensor) -> Tensor:
        """Returns vectors `(B, width)` of images `(B, 3, H, W)` in [-1, 1]."""
        parts = [self.shape(images).pooler_output.flatten(1), self.colour(images), self.texture(images)]
        return self.norm(torch.cat(parts, dim=1).float())


def colour_waves(images: Tensor) -> Tensor:
    """Returns colours `(B, 3, H, W)` in [-1, 1] and their Fourier features, `(B, 3 + 6 * OCTAVES, H, W)`."""
    angles = [images * (math.pi * 2**octave / 2) for octave in range(OCTAVES)]
    return torch.cat([images, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], dim=1)
