"""Reference images of a user, and the encoding of prompts that follow them in a text encoder's input.

Shapes: `B` prompts, `R` images of a user, `C, h, w` latents, `P` tokens of an image of width `D`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.interfaces import Generator, PromptEncoder


@dataclass(frozen=True)
class ReferenceImages:
    """Reference images of one user, encoded once."""

    latents: Tensor  # `(R, C, h, w)`, which the denoiser sees
    features: Tensor | None = None  # `(R, P, D)`, which the text encoder reads in front of a prompt


class PicturePromptEncoder(PromptEncoder, Protocol):
    """The text encoder of a generator with `Capabilities.prompts_with_references`."""

    def encode_pictures(self, images: Tensor) -> Tensor:
        """Returns features `(B, P, D)`, on the CPU, of images `(B, 3, H, W)` in [-1, 1]."""

    def encode_with_pictures(self, texts: Sequence[str], pictures: Sequence[Tensor]) -> TextBlock:
        """Returns what `encode` does of texts behind pictures."""


def encode_references(generator: Generator, images: Tensor) -> ReferenceImages:
    """Returns a user's images `(R, 3, H, W)` in [-1, 1], as a generator sees them."""
    latents = generator.encode_images(images)
    if not generator.supports.prompts_with_references:
        return ReferenceImages(latents)
    return ReferenceImages(latents, cast(PicturePromptEncoder, generator.text_encoder).encode_pictures(images))


def encode_prompts(generator: Generator, texts: Sequence[str], references: Sequence[ReferenceImages]) -> TextBlock:
    """Returns encoded prompts, behind their references, if any, where the text encoder reads these."""
    features = [images.features for images in references if images.features is not None]
    if not features:
        return generator.text_encoder.encode(texts)
    return cast(PicturePromptEncoder, generator.text_encoder).encode_with_pictures(texts, features)
