"""Denoisers of diffusers behind one call: UNets and diffusion transformers.

    denoiser = UNetDenoiser(unet)
    output = denoiser(noisy, times, tokens, mask, pooled)

Shapes: `B` batch, `C, h, w` latents, `L` tokens of the condition, `D` their width, `P` width of the pooled vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from pmg.models.diffusion.cross_attention import attention_for
from pmg.models.loading.weight_sources import load_frozen


class Denoiser(Protocol):
    """Predicts what its noise process asks for from noisy latents and a condition."""

    model: ModelMixin
    folder: str  # name of the sub-folder in a pipeline of diffusers

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        ...

    def __call__(self, noisy: Tensor, times: Tensor, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Returns the output `(B, C, h, w)`.

        Args:
            noisy: latents `(B, C, h, w)`.
            times: in the unit of the time embedding, `(B,)`.
            tokens: of the condition, `(B, L, D)`.
            mask: bool `(B, L)`, true where a token counts.
            pooled: joins the time embedding, `(B, P)`.
        """
        ...


class UNetDenoiser(nn.Module):
    """A UNet with cross-attention; the pooled vector goes through its class embedding.

    Args:
        model: with ``class_embed_type="projection"``.
    """

    folder = "unet"

    @classmethod
    def from_folder(cls, folder: str | Path) -> UNetDenoiser:
        """Loads a diffusers folder, frozen, in float32."""
        return cls(load_frozen(UNet2DConditionModel, folder))

    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)  # convolutions: 1.1 times faster on processors
        self.model.set_attn_processor(attention_for(self.latent_shape))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        config = self.model.config
        return config.in_channels, config.sample_size, config.sample_size

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Returns the output, see `Denoiser`."""
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return self.model(noisy, times, tokens, class_labels=pooled, encoder_attention_mask=mask).sample


class SD3Denoiser(nn.Module):
    """The diffusion transformer of Stable Diffusion 3 (Esser et al. 2024).

    Its joint attention has no mask: hidden tokens are zeros, as padding is in the published models.

    Args:
        model: whose ``pooled_projection_dim`` is the width of the pooled vector.
    """

    folder = "transformer"

    @classmethod
    def from_folder(cls, folder: str | Path) -> SD3Denoiser:
        """Loads a diffusers folder, frozen, in float32."""
        return cls(load_frozen(SD3Transformer2DModel, folder))

    def __init__(self, model: SD3Transformer2DModel) -> None:
        super().__init__()
        self.model = model

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        config = self.model.config
        return config.in_channels, config.sample_size, config.sample_size

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Returns the output, see `Denoiser`."""
        return self.model(
            hidden_states=noisy, timestep=times, encoder_hidden_states=tokens * mask[..., None],
            pooled_projections=pooled,
        ).sample  # fmt: skip
