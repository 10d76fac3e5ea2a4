"""Checks and ranges of images that metrics share."""

from __future__ import annotations

from torch import Tensor

TOLERANCE = 1e-3  # that rounding may add to a range


def check_images(name: str, images: Tensor, low: float = -1.0, high: float = 1.0) -> None:
    """Refuses what is not a batch of RGB images in the range that a metric needs.

    Raises:
        ValueError: names the shape, type or range that was found.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"{name} must be float (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if not images.numel():
        raise ValueError(f"{name} holds no image")
    least, most = images.min().item(), images.max().item()
    if not (low - TOLERANCE <= least and most <= high + TOLERANCE):  # written so that NaN fails, too
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got [{least:.3g}, {most:.3g}]")


def to_unit(images: Tensor) -> Tensor:
    """Returns images in [-1, 1] as images in [0, 1]."""
    return images.add(1).div(2).clamp(0, 1)
