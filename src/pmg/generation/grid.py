"""A grid of concepts and styles, both prompted by words, for visual inspection of a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pmg.data.emoji.tastes import style_words
from pmg.models.diffusion.conditioning import join
from pmg.models.diffusion.generator import Generator
from pmg.models.diffusion.sampling import sample_latents
from pmg.seeding import stable_number


@torch.no_grad()
def concept_style_grid(
    generator: Generator, titles: Sequence[str], styles: Mapping[str, Mapping[str, str]], scene: str,
    steps: int = 16, guidance: float = 3.0,
) -> Tensor:  # fmt: skip
    """Generates every title in every style, one row a style.

    Returns:
        Images `(S * T, 3, H, W)` in [-1, 1]; the noise depends on the title only.
    """
    encode = generator.text_encoder.encode
    target = encode([f"{title}, {scene}" for _ in styles for title in titles])
    style = encode([style_words(facts) for facts in styles.values() for _ in titles])
    noise = torch.stack([seeded_noise(generator, title) for _ in styles for title in titles])
    empty = join(encode([""]).expand(len(noise)))
    latents = sample_latents(generator, [empty, join(target, style)], [1 - guidance, guidance], noise, steps)
    return generator.decode(latents)


def seeded_noise(generator: Generator, text: str) -> Tensor:
    """Returns noise `(C, h, w)` that depends on `text` only."""
    seed = stable_number("grid", text) % 2**62
    return torch.randn(generator.latent_shape, generator=torch.Generator().manual_seed(seed))
