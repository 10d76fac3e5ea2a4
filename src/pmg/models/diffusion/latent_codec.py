"""Autoencoders of diffusers as latent codecs: images to normalised latents and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from diffusers import AutoencoderKL, ModelMixin
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


class NormalizingCodec(nn.Module, ABC):
    """Implements `LatentCodec`: over the training images each channel of the latents has mean 0 and deviation 1."""

    def __init__(self, autoencoder: ModelMixin, channels: int, downsampling: int, enlargement: int = 1) -> None:
        super().__init__()
        self.autoencoder, self.channels = autoencoder, channels
        self.downsampling, self.enlargement = downsampling, enlargement

    def encode(self, images: Tensor) -> Tensor:
        """Returns normalised latents `(B, C, h, w)`, float32, of images `(B, 3, H, W)` in [-1, 1]."""
        latents = self._encode(images).float()
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, H, W)` in [-1, 1], float32, of normalised latents `(B, C, h, w)`."""
        mean, deviation = self._statistics(latents)
        return self._decode(latents * deviation + mean).float().clamp(-1, 1)

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """Returns latents that aren't normalised."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Returns the images of such latents."""

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and deviation of latents like these, `()` or `(1, C, 1, 1)`; here those of the config."""
        config, view = self.autoencoder.config, (1, -1, 1, 1)
        return latents.new_tensor(config.latents_mean).view(view), latents.new_tensor(config.latents_std).view(view)


class AutoencoderKLCodec(NormalizingCodec):
    """An `AutoencoderKL` whose config normalises the latents: the posterior's mean is the latent.

    The config has ``latents_mean`` and ``latents_std`` of each channel, or a ``shift_factor`` and ``scaling_factor``.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        config = autoencoder.config
        super().__init__(autoencoder, config.latent_channels, 2 ** (len(config.block_out_channels) - 1))

    @classmethod
    def from_folder(cls, folder: str | Path) -> AutoencoderKLCodec:
        """Loads a diffusers folder, frozen, in float32; PmgError if it is missing or damaged."""
        return cls(load_frozen(AutoencoderKL, folder))

    def _encode(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images).latent_dist.mean

    def _decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents).sample

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config = self.autoencoder.config
        if config.latents_mean is not None:
            return super()._statistics(latents)
        return latents.new_tensor(config.shift_factor or 0.0), latents.new_tensor(1 / config.scaling_factor)
