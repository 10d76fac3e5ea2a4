"""Resizing of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def fit_size(images: Tensor, size: int) -> Tensor:
    """Returns images `(B, 3, H, H)` in [-1, 1] resized to `size` pixels; unchanged if they have that size."""
    if images.shape[-1] == images.shape[-2] == size:
        return images
    return interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)
