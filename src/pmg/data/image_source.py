"""The interface of images that are varied at random in training."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


def mirror_half(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Returns pictures `(B, 3, H, W)`, each mirrored with a chance of one half."""
    mirrored = torch.rand(len(pictures), generator=rng) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), pictures.flip(-1), pictures)


class PictureSource(Protocol):
    """Pictures that a model is trained or measured on, as the data set varies them."""

    def __len__(self) -> int:
        """Returns the number of different pictures before variation."""
        ...

    def draw(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Returns varied pictures.

        Args:
            rows: row numbers in ``[0, len(self))``, int64 `(B,)`.
            rng: decides the variation; the same state gives the same pictures.

        Returns:
            Float32 in [-1, 1], `(B, 3, H, W)`.
        """
        ...
