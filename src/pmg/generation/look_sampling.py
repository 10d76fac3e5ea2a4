"""Draws pictures of targets in looks: the embedded generator under guidance by target, words and style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pmg.generation.guidance import Scales
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.conditioning import Block, SoftBlock, join_seen
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.loading.weight_sources import load_frozen


class LookGenerator:
    """A generator with the style encoder that was trained with it.

    Args:
        generator: frozen.
        style_encoder: frozen.
    """

    def __init__(self, generator: DiffusionGenerator, style_encoder: StyleEncoder) -> None:
        self.generator, self.style_encoder = generator, style_encoder.eval()

    @classmethod
    def from_folder(cls, folder: str, generator: DiffusionGenerator) -> LookGenerator:
        """Loads the ``style_encoder`` of a folder."""
        return cls(generator, load_frozen(StyleEncoder, Path(folder, "style_encoder")))

    def read_style(self, pictures: Tensor) -> Tensor:
        """Returns style tokens `(B, n, D)` of reference pictures `(B, R, 3, H, W)` in [-1, 1]."""
        return self.style_encoder.read(self.generator.encode_images, pictures)

    @torch.no_grad()
    def __call__(
        self, targets: Sequence[str], words: Sequence[str] | None, style: Tensor | None, scales: Scales,
        steps: int, seeds: Sequence[int],
    ) -> Tensor:  # fmt: skip
        """Returns pictures `(B, 3, H, W)` in [-1, 1].

        Args:
            targets: what is drawn, B texts.
            words: how, in words; None: nothing is said.
            style: style tokens `(B, n, D)`; None: none.
            scales: of the guidance.
            steps: of the solver.
            seeds: of each picture's noise.
        """
        encode = self.generator.text_encoder.encode
        blocks: dict[str, Block] = {"target": encode(targets)}
        if words is not None:
            blocks["keywords"] = encode(words)
        if style is not None:
            blocks["soft"] = SoftBlock.of(style)
        _, *preference = blocks
        coefficients = scales.coefficients(preference, negative=False)
        empty = encode([""]).expand(len(targets))
        with processor_autocast():
            latents = self.generator.sample(
                [join_seen(blocks, empty, seen) for seen in coefficients], list(coefficients.values()), seeds, steps
            )
        return self.generator.decode(latents.float())
