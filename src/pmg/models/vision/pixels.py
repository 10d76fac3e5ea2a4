"""Pixels as floating point numbers in [-1, 1] and as bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Returns pixels in [-1, 1] as uint8 of the same shape; values outside are clipped."""
    return images.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte()


def from_uint8(levels: Tensor) -> Tensor:
    """Returns uint8 pixels as float32 in [-1, 1], of the same shape."""
    return levels.to(torch.float32, copy=True).div_(127.5).sub_(1)
