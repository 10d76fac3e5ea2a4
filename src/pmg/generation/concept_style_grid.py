"""A grid of concepts and styles, both prompted by words, for visual inspection of a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pmg.data.emoji.tastes import style_words
from pmg.models.diffusion.conditioning import join
from pmg.models.diffusion.interfaces import Generator
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
    seeds = [stable_number("grid", title) % 2**62 for _ in styles for title in titles]
    empty = join(encode([""]).expand(len(seeds)))
    branches = [empty, join(target, style)]
    return generator.decode(generator.sample(branches, [1 - guidance, guidance], seeds, steps))
