"""Random geometry for small drawings on white: colours are left alone, since they belong to a style."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from pmg.models.vision.pixels import from_uint8

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


class DrawingBatches:
    """Collates catalogue rows into augmented images with their classes.

    Args:
        real: uint8 drawings `(N, 3, H, W)`.
        restored: the same after the autoencoder; half of a batch comes from here, so that what is judged
            or scored later, decoded images, does not look foreign.
        labels: further tensors by name, one row a drawing, handed through.
    """

    def __init__(self, real: Tensor, restored: Tensor, labels: dict[str, Tensor]) -> None:
        self.real, self.restored, self.labels = real, restored, labels

    def plain(self, rows: Tensor) -> dict[str, Tensor]:
        """Real drawings in [-1, 1], not augmented, with their labels."""
        images = from_uint8(self.real[rows])
        return {"images": images, **{name: values[rows] for name, values in self.labels.items()}}

    def __call__(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """An augmented batch of `rows` `(B,)`."""
        batch = self.plain(rows)
        swap = torch.rand(len(rows), generator=generator) < 0.5
        batch["images"][swap] = from_uint8(self.restored[rows[swap]])
        batch["images"] = random_affine(batch["images"], generator)
        return batch
