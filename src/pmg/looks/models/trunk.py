"""The convolutions that models of looks begin with, and what is taken from their stages."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from pmg.models.vision.backbones import EmbeddedModel


class Trunk(EmbeddedModel):
    """Convolutions without a classifier.

    Attributes:
        channels: of each stage's output.
        width: channels of the features.
    """

    channels: ClassVar[tuple[int, ...]]
    width: ClassVar[int]

    @abstractmethod
    def freeze(self, stages: int) -> None:
        """Takes the first `stages` out of training; 0: none."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns each stage's output, `(B, C, h, w)`, and features `(B, width, h, w)`, of images in [-1, 1]."""


def statistics(layer: Tensor) -> Tensor:
    """Returns mean and standard deviation `(B, 2 * C)` over the positions of `(B, C, h, w)`."""
    mean, variance = layer.mean((2, 3)), layer.var((2, 3), unbiased=False)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)
