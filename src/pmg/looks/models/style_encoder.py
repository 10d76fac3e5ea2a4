"""The style encoder, trained with the denoiser, which reads its tokens of how pictures look; as an image encoder, too.

Shapes: `B` batch, `R` reference pictures, `C, h, w` latents, `N` patches of them, `n` tokens, `D` their width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.image_passes import fit_size
from pmg.models.loading.weight_sources import load_frozen


class StyleEncoder(ModelMixin, ConfigMixin):
    """Reads one or several pictures of the same look, by latents of `in_channels`, as `n` `tokens` of a `width` `D`.

    `channels` are of the convolutions, `heads` of the attention that sums the pictures up; one feature is computed of
    a patch of latents `stride` a side.
    """

    @register_to_config
    def __init__(
        self, in_channels: Count = 16, channels: Count = 192, tokens: Count = 4, width: Count = 384, heads: Count = 4,
        stride: Count = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, channels, stride + 2, stride, padding=1),
            ResidualConvolutions(channels),
            ResidualConvolutions(channels),
        )
        self.queries = nn.Parameter(torch.randn(tokens, channels) * channels**-0.5)
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.out = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.SiLU(), nn.Linear(2 * channels, width)
        )
        self.scale = nn.LayerNorm(width, elementwise_affine=False)

    def encode_pictures(self, latents: Tensor) -> Tensor:
        """Returns the features of pictures, `(B, N, channels)`, from normalised latents `(B, C, h, w)`."""
        return self.norm(self.features(latents).flatten(2).transpose(1, 2))

    def summarise(self, features: Tensor, present: Tensor) -> Tensor:
        """Returns style tokens, `(B, n, D)`, of unit variance, of features `(B, R, N, channels)`.

        Bool `present` `(B, R)` says which pictures count; at least one a row.
        """
        places = features.shape[2]
        hidden = (~present).repeat_interleave(places, 1)
        queries = self.queries.expand(len(features), -1, -1)
        read, _ = self.attention(
            queries, features.flatten(1, 2), features.flatten(1, 2), key_padding_mask=hidden, need_weights=False
        )
        return self.scale(self.out(queries + read))

    def forward(self, latents: Tensor, present: Tensor | None = None) -> Tensor:
        """Returns style tokens `(B, n, D)` of reference pictures' latents `(B, R, C, h, w)`."""
        if present is None:
            present = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        features = self.encode_pictures(latents.flatten(0, 1))
        return self.summarise(features.unflatten(0, latents.shape[:2]), present)

    @torch.no_grad()
    def read(self, encode: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
        """Returns style tokens `(B, n, D)`, without gradients, of reference pictures `(B, R, 3, H, W)` in [-1, 1].

        `encode` turns `(B, 3, H, W)` into latents; PmgError if they are of another autoencoder.
        """
        latents = encode(pictures.flatten(0, 1))
        if latents.shape[1] != self.config.in_channels:
            raise PmgError(
                f"the style encoder reads latents of {self.config.in_channels} channels, and this generator's have "
                f"{latents.shape[1]}. Name methods that don't use it, e.g. method=[none,keywords,soft,pmg_paper]"
            )
        return self(latents.unflatten(0, pictures.shape[:2]))


class ResidualConvolutions(nn.Module):
    """Two convolutions beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, states: Tensor) -> Tensor:
        """Returns `(B, channels, h, w)`."""
        return states + self.layers(states)


@dataclass
class StyleImageEncoder:
    """The style tokens of single pictures, side by side."""

    folder: str  # of the style encoder
    codec: LatentCodec  # of the generator whose latents it reads
    size: Count = 64  # pixels of its training
    are_tokens: ClassVar[bool] = True

    @cached_property
    def encoder(self) -> StyleEncoder:
        """The style encoder; PmgError if its folder is missing or damaged."""
        return load_frozen(StyleEncoder, self.folder)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns the tokens of pictures `(B, 3, H, W)` in [-1, 1], as vectors `(B, n D)`."""
        latents = self.codec.encode(fit_size(pictures, self.size))
        return self.encoder(latents[:, None]).flatten(1)
