"""Random geometry for small drawings on white: colours are left alone, since they belong to a style."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

ANGLE = math.radians(4)
SCALE = 0.06
SHIFT = 0.1  # of half the image


def uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    """`count` numbers in [-limit, limit]."""
    return (torch.rand(count, generator=generator) * 2 - 1) * limit


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turns, scales, shifts and (half of the time) mirrors each image `(B, 3, H, W)` by its own amount."""
    count = len(images)
    angle = uniform(count, ANGLE, generator)
    scale = 1 + uniform(count, SCALE, generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift_x, shift_y = uniform(count, SHIFT, generator), uniform(count, SHIFT, generator)
    rows = [torch.stack([cos * mirror, -sin, shift_x], 1), torch.stack([sin * mirror, cos, shift_y], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
