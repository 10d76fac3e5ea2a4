"""What frozen generators share: `B` images are encoded and decoded in passes that fit memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

MAX_PIXELS = 2**21  # in one pass: 512 images of 64 pixels a side, 8 of 512, 2 of 1024
MAX_PIXELS_CPU = 2**15  # 8 images of 64 pixels a side fit caches: 1.5 times faster than 50 of them


def fit_size(images: Tensor, size: int) -> Tensor:
    """Returns images `(B, 3, H, H)` in [-1, 1] resized to `size` pixels; unchanged if they have that size."""
    if images.shape[-1] == images.shape[-2] == size:
        return images
    return interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)


class ImagePasses(nn.Module, ABC):
    """A generator that encodes and decodes images of one size each, as many at once as fit memory."""

    size: int
    """Side of decoded images in pixels."""
    encoded_size: int
    """Side of images to encode, to which others are resized."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the weights."""

    @abstractmethod
    def encode_pass(self, images: Tensor) -> Tensor:
        """Returns latents `(B, *latent_shape)` of images `(B, 3, H, H)` of the encoded size, on the device."""

    @abstractmethod
    def decode_pass(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` of latents `(B, *latent_shape)`, both on the weights' device."""

    def freeze(self) -> Self:
        """Disables gradients of all weights and sets evaluation mode; returns the generator."""
        return self.requires_grad_(False).eval()

    @property
    def images_at_once(self) -> int:
        """Images in one pass, whose layers at full resolution take most memory."""
        pixels = MAX_PIXELS_CPU if self.device.type == "cpu" else MAX_PIXELS
        return max(1, pixels // self.size**2)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Returns latents `(B, *latent_shape)`, on the CPU, of images `(B, 3, H, W)` in [-1, 1] of any size."""
        parts = (fit_size(part, self.encoded_size).to(self.device) for part in images.split(self.images_at_once))
        return torch.cat([self.encode_pass(part).cpu() for part in parts])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` in [-1, 1], on the CPU, of latents `(B, *latent_shape)`."""
        parts = (part.to(self.device) for part in latents.split(self.images_at_once))
        return torch.cat([self.decode_pass(part).cpu() for part in parts])
