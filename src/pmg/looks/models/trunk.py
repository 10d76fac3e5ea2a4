"""Convolutions that models of looks begin with; shallow branches at full resolution, for what downsampling removes."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from pmg.models.loading.weight_sources import EmbeddedModel

OCTAVES = 6  # finest wave of the colour code: 8 levels of 255
PALETTE = 128


class Trunk(EmbeddedModel):
    """Convolutions without a classifier, with the channels of each stage's output and the features' width."""

    channels: ClassVar[tuple[int, ...]]
    width: ClassVar[int]

    @abstractmethod
    def freeze(self, stages: int) -> None:
        """Takes the first `stages` out of training; 0: none."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns each stage's output, `(B, C, h, w)`, and features `(B, width, h, w)`, of images in [-1, 1]."""


def statistics(layer: Tensor) -> Tensor:
    """Returns mean and standard deviation `(B, 2 * C)` over the positions of `(B, C, h, w)`."""
    mean, variance = layer.mean((2, 3)), layer.var((2, 3), unbiased=False)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


class ColourBranch(nn.Sequential):
    """Encodes a palette as `(B, PALETTE)`: the mean of Fourier features of pixels (Tancik et al. 2020).

    One in `stride` pixels is taken each way, without averaging, which would mix colours.
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


def colour_waves(images: Tensor) -> Tensor:
    """Returns colours `(B, 3, H, W)` in [-1, 1] and their Fourier features, `(B, 3 + 6 * OCTAVES, H, W)`."""
    angles = [images * (math.pi * 2**octave / 2) for octave in range(OCTAVES)]
    return torch.cat([images, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], dim=1)
