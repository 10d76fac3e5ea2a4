"""Towers: what an encoder of preferences sees of a picture, as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.vision.image_sizes import fit_size
from pmg.models.vision.scorer import Scorer


class PictureTower(Protocol):
    """A frozen model that turns pictures into vectors."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns vectors `(B, F)` of pictures `(B, 3, H, W)` in [-1, 1]."""
        ...


@dataclass(frozen=True)
class ScorerTower:
    """A scorer's two vectors, of what a picture shows and of how it looks, side by side.

    Attributes:
        scorer: frozen.
    """

    scorer: Scorer

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns vectors `(B, 2 D)`."""
        return torch.cat(self.scorer(pictures), 1)


@dataclass
class StyleTower:
    """The style tokens of single pictures, side by side, of the style encoder that was trained with the generator.

    Attributes:
        folder: of the style encoder.
        codec: of the generator whose latents it reads.
        size: pixels a side that it was trained on.
    """

    folder: str
    codec: LatentCodec
    size: int = 64

    @cached_property
    def encoder(self) -> StyleEncoder:
        """The style encoder.

        Raises:
            PmgError: the folder is missing or damaged.
        """
        return load_frozen(StyleEncoder, self.folder)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns vectors `(B, n D)`."""
        latents = self.codec.encode(fit_size(pictures, self.size))
        return self.encoder(latents[:, None]).flatten(1)
