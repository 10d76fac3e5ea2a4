"""Shallow branches at full resolution: a deeper network downsamples first, which removes what artists differ by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

OCTAVES = 6  # finest wave of the colour code: 8 levels of 255
PALETTE = 128


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


def colour_waves(images: Tensor) -> Tensor:
    """Returns colours `(B, 3, H, W)` in [-1, 1] and their Fourier features, `(B, 3 + 6 * OCTAVES, H, W)`."""
    angles = [images * (math.pi * 2**octave / 2) for octave in range(OCTAVES)]
    return torch.cat([images, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], dim=1)
