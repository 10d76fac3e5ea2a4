"""The generator's style encoder as a vision tower: what a preference encoder sees of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pmg.configuration.ranges import Count
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.image_sizes import fit_size
from pmg.models.loading.weight_sources import load_frozen


@dataclass
class StyleTower:
    """The style tokens of single pictures, side by side.

    Attributes:
        folder: of the style encoder.
        codec: of the generator whose latents it reads.
        size: pixels a side that it was trained on.
    """

    folder: str
    codec: LatentCodec
    size: Count = 64
    are_tokens: ClassVar[bool] = True

    @cached_property
    def encoder(self) -> StyleEncoder:
        """The style encoder.

        Raises:
            PmgError: the folder is missing or damaged.
        """
        return load_frozen(StyleEncoder, self.folder)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns the tokens of pictures `(B, 3, H, W)` in [-1, 1], as vectors `(B, n D)`."""
        latents = self.codec.encode(fit_size(pictures, self.size))
        return self.encoder(latents[:, None]).flatten(1)
