"""The autoencoder alone: loading, and normalised latents of pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch import Tensor

from pmg.models.sources import load_frozen

AT_ONCE = 16  # pictures of 64 pixels in one pass on a processor


def load_autoencoder(folder: Path) -> AutoencoderDC:
    """Returns the frozen autoencoder of a diffusers folder, in float32."""
    return load_frozen(AutoencoderDC, folder).float()


def latent_statistics(autoencoder: AutoencoderDC, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of each channel of the latents, shaped to fit `latents` `(B, C, h, w)`."""
    config, view = autoencoder.config, (1, -1, 1, 1)
    if not config.get("latents_mean"):
        return latents.new_zeros(()), latents.new_tensor(1 / config.scaling_factor)
    return latents.new_tensor(config.latents_mean).view(view), latents.new_tensor(config.latents_std).view(view)


@torch.no_grad()
def encode_pictures(autoencoder: AutoencoderDC, pictures: Tensor) -> Tensor:
    """Returns normalised latents `(B, C, h, w)` of pictures `(B, 3, H, W)` in [-1, 1]."""
    parts = [autoencoder.encode(part).latent for part in pictures.split(AT_ONCE)]
    latents = torch.cat(parts).float()
    mean, deviation = latent_statistics(autoencoder, latents)
    return (latents - mean) / deviation


@torch.no_grad()
def decode_latents(autoencoder: AutoencoderDC, latents: Tensor) -> Tensor:
    """Returns pictures `(B, 3, H, W)` in [-1, 1] of normalised latents `(B, C, h, w)`."""
    mean, deviation = latent_statistics(autoencoder, latents)
    parts = [autoencoder.decode(part).sample for part in (latents * deviation + mean).split(AT_ONCE)]
    return torch.cat(parts).float().clamp(-1, 1)
