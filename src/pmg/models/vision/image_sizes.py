"""Sizes of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def fit_size(images: Tensor, size: int) -> Tensor:
    """Square images `(B, 3, H, H)` in [-1, 1] at `size` pixels; those that have it are given back as they are."""
    if images.shape[-1] == images.shape[-2] == size:
        return images
    return interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)
