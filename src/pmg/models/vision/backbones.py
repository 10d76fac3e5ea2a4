"""Backbones of models that see: what `pmg-pretrain` trains or begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn
from transformers import PreTrainedModel, ResNetConfig, ResNetModel

from pmg.models.loading.weight_sources import load_frozen


class EmbeddedModel(PreTrainedModel):
    """A model that `pmg-pretrain` trains or begins with."""

    def _init_weights(self, module: nn.Module) -> None:
        """Keeps torch's initialisation: transformers' standard deviation of 0.02 is too small for shallow branches."""

    @classmethod
    def from_folder(cls, folder: str) -> Self:
        """Loads a frozen model; PmgError if the folder is missing or damaged."""
        return load_frozen(cls, folder)


class ImageEncoder(nn.Module):
    """Encodes an image as one vector: `(B, 3, H, W)` in [-1, 1] as `(B, width)`, normalised by ``norm``."""

    norm: nn.BatchNorm1d

    @property
    def width(self) -> int:
        """Width of the vector."""
        return self.norm.num_features


class ResNetEncoder(ImageEncoder):
    """A residual network (He et al. 2015) with its mean over positions; `depths` blocks of `widths` a stage."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.shape = ResNetModel(
            ResNetConfig(embedding_size=widths[0], hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
        )
        self.norm = nn.BatchNorm1d(widths[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Returns vectors `(B, width)` of images `(B, 3, H, W)` in [-1, 1]."""
        return self.norm(self.shape(images).pooler_output.flatten(1).float())
