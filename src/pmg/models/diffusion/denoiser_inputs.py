"""What a denoiser is told beside noisy latents and tokens: it differs between families."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import Kept


def check_denoiser(denoiser: UNet2DConditionModel, latent_channels: int) -> None:
    """Refuses denoisers that need inputs which a text-to-image request doesn't have.

    Args:
        denoiser: the UNet.
        latent_channels: of the autoencoder.

    Raises:
        PmgError: an inpainting or image-to-image model, or one with another kind of addition than SDXL's.
    """
    config = denoiser.config
    if config.in_channels != latent_channels:
        raise PmgError(
            f"the denoiser takes {config.in_channels} channels and the autoencoder gives {latent_channels}: this is "
            "no text-to-image checkpoint (inpainting, perhaps); name one that is"
        )
    if config.addition_embed_type not in (None, "text_time"):
        raise PmgError(f"denoisers with addition_embed_type={config.addition_embed_type} are not supported")


def denoiser_inputs(
    denoiser: UNet2DConditionModel, condition: Condition, size: int, guidance: float | None, kept: Kept | None = None
) -> dict[str, Any]:
    """Arguments for the denoiser's call.

    Args:
        denoiser: the UNet.
        condition: of B rows.
        size: of the images, in pixels.
        guidance: scale that a model distilled with guidance takes as an input; None: 1.
        kept: where attention keeps keys and values of the condition, see `WeightedAttention`.
    """
    config = denoiser.config
    inputs: dict[str, Any] = {"cross_attention_kwargs": {"token_bias": condition.bias, "kept": kept}}
    if config.class_embed_type == "projection":
        inputs["class_labels"] = condition.pooled
    if config.addition_embed_type == "text_time":  # original size, corner of the crop, target size
        times = condition.tokens.new_tensor([size, size, 0, 0, size, size]).expand(len(condition), -1)
        inputs["added_cond_kwargs"] = {"text_embeds": condition.pooled, "time_ids": times}
    if config.time_cond_proj_dim:
        scale = torch.full((len(condition),), (1.0 if guidance is None else guidance) - 1.0)
        inputs["timestep_cond"] = scale_embedding(scale, config.time_cond_proj_dim).to(condition.tokens)
    return inputs


def scale_embedding(scale: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding `(B, width)` of guidance scales minus 1 `(B,)` (Luo et al. 2023)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -math.log(10000.0) / (half - 1))
    angles = scale[:, None] * 1000.0 * frequencies
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))
