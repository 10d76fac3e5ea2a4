"""Pixels as floating point numbers in [-1, 1] or [0, 1] and as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def to_uint8(images: Tensor) -> Tensor:
    """Returns pixels in [-1, 1] as uint8 of the same shape; values outside are clipped."""
    return images.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte()


def from_uint8(levels: Tensor) -> Tensor:
    """Returns uint8 pixels as float32 in [-1, 1], of the same shape."""
    return levels.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_unit(images: Tensor) -> Tensor:
    """Returns pixels in [-1, 1] as float32 in [0, 1], of the same shape; values outside are clipped."""
    return images.float().add(1).div(2).clamp(0, 1)


class ChannelNormalization(nn.Module):
    """Normalises each channel by the statistics of the images that an encoder was trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Returns normalised images `(B, 3, H, W)`, on the module's device, of images in [-1, 1]."""
        return images.to(self.mean).add(1).div(2).sub(self.mean).div(self.std)
