"""Autoencoders of diffusers as latent codecs: images to normalised latents and back.

codec = AutoencoderKLCodec.from_folder("stable-diffusion/vae")
latents = codec.encode(images)   # (B, C, h, w), each channel of mean 0 and deviation 1 over the training images
images = codec.decode(latents)   # (B, 3, H, W) in [-1, 1]
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.loading.weight_sources import load_frozen


def latent_size(codec: LatentCodec, image_size: int | None) -> int | None:
    """Returns the latents' side for a size in pixels, None for None; PmgError if `downsampling` doesn't divide it."""
    if image_size is None:
        return None
    if image_size % codec.downsampling:
        raise PmgError(f"generator.size is {image_size}; it must be a multiple of {codec.downsampling} pixels")
    return image_size // codec.downsampling


class AutoencoderKLCodec(nn.Module):
    """An `AutoencoderKL` whose config normalises the latents: the posterior's mean is the latent.

    The config holds ``latents_mean`` and ``latents_std`` of each channel, or one ``shift_factor`` and
    ``scaling_factor``.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @classmethod
    def from_folder(cls, folder: str | Path) -> AutoencoderKLCodec:
        """Loads a diffusers folder, frozen, in float32; PmgError if it is missing or damaged."""
        return cls(load_frozen(AutoencoderKL, folder))

    @property
    def channels(self) -> int:
        """Channels `C` of the latents."""
        return self.autoencoder.config.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels a side of one latent."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """Returns normalised latents `(B, C, h, w)` of images `(B, 3, H, W)` in [-1, 1]."""
        latents = self.autoencoder.encode(images).latent_dist.mean.float()
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def decode(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, H, W)` in [-1, 1] of normalised latents `(B, C, h, w)`."""
        mean, std = self._statistics(latents)
        return self.autoencoder.decode(latents * std + mean).sample.float().clamp(-1, 1)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config, view = self.autoencoder.config, (1, -1, 1, 1)
        if config.latents_mean is None:
            return latents.new_tensor(config.shift_factor or 0.0), latents.new_tensor(1 / config.scaling_factor)
        return latents.new_tensor(config.latents_mean).view(view), latents.new_tensor(config.latents_std).view(view)
