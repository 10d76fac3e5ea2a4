"""LPIPS and SSIM of images of your own.

The metrics of `pmg-evaluate` are functions of tensors: here LPIPS (shipped weights) and SSIM between an image and
damaged copies of it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pmg import compose, instantiate
from pmg.evaluation.metrics.ssim import ssim
from pmg.models.vision.pixels import to_unit


def main(folder: Path = Path("outputs/examples")) -> None:
    """Prints both distances for a picture with noise, a shifted one and a flat one."""
    perceptual = instantiate(compose("evaluate").metrics.lpips_truth.perceptual)
    grid = torch.linspace(-1, 1, 64)
    picture = torch.stack([grid.expand(64, 64), grid.expand(64, 64).T, (grid[:, None] * grid).abs()])[None]
    noise = 0.2 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    copies = {
        "noise": (picture + noise).clamp(-1, 1),
        "shifted": picture.roll(4, -1),
        "flat": torch.zeros_like(picture),
    }
    for name, copy in copies.items():
        similarity = ssim(to_unit(picture), to_unit(copy)).item()
        print(f"{name}: LPIPS {perceptual(picture, copy).item():.3f}, SSIM {similarity:.3f}")


if __name__ == "__main__":
    main()
