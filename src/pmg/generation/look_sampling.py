"""Draws pictures of targets in looks: the embedded denoiser under guidance by target, words and style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pmg.configuration.precision import has_bfloat16
from pmg.models.diffusion.conditioning import Block, TextBlock
from pmg.models.diffusion.interfaces import Denoiser, LatentCodec, NoiseProcess
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.models.diffusion.look_denoiser import LookDenoiser, pool_condition
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.weight_sources import load_frozen


@dataclass(frozen=True)
class LookScales:
    """Guidance scales, nested: nothing, then the target, then words, then style.

    Attributes:
        target: of the target.
        words: of the words.
        style: of the style tokens.
    """

    target: float = 2.5
    words: float = 2.0
    style: float = 2.0


class LookGenerator:
    """Frozen models that draw looks.

    Args:
        model: denoiser, style encoder and noise process.
        codec: pixels <-> latents.
        text_encoder: encodes titles and words.
    """

    def __init__(self, model: LookDenoiser, codec: LatentCodec, text_encoder: TextEncoder) -> None:
        self.model, self.codec, self.text_encoder = model.eval(), codec, text_encoder

    @classmethod
    def from_folder(
        cls, folder: str, denoiser: Denoiser, process: NoiseProcess, text_encoder: TextEncoder
    ) -> LookGenerator:
        """Loads ``vae`` and ``style_encoder`` beside a denoiser, frozen."""
        style_encoder = load_frozen(StyleEncoder, Path(folder, "style_encoder")).float()
        return cls(
            LookDenoiser(denoiser, style_encoder, process),
            AutoencoderDCCodec.from_folder(Path(folder, "vae")),
            text_encoder,
        )

    @torch.no_grad()
    def read_style(self, pictures: Tensor) -> Tensor:
        """Returns style tokens `(B, n, D)` of reference pictures `(B, R, 3, H, W)` in [-1, 1]."""
        latents = self.codec.encode(pictures.flatten(0, 1))
        return self.model.style_encoder(latents.unflatten(0, pictures.shape[:2]))

    @torch.no_grad()
    def __call__(
        self, targets: Sequence[str], words: Sequence[str] | None, style: Tensor | None, scales: LookScales,
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
        branches = self._branches(targets, words, style, scales)
        shape = self.model.denoiser.latent_shape
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        latents = torch.stack(noise)
        sampler = self.model.process.new_sampler()
        sampler.set_timesteps(steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            for time in sampler.timesteps:
                output = self._guided(latents, float(time), branches)
                latents = sampler.step(output, time, latents).prev_sample
        return self.codec.decode(latents)

    def _branches(
        self, targets: Sequence[str], words: Sequence[str] | None, style: Tensor | None, scales: LookScales
    ) -> list[tuple[float, list[Block], Tensor]]:
        """Returns coefficient, blocks and pooled vector of each branch of the guidance."""
        tokens, width = self.model.style_encoder.config.tokens, self.model.style_encoder.config.width
        count = len(targets)
        target, empty = self.text_encoder.encode(targets), self.text_encoder.encode([""]).expand(count)
        no_style = Block(torch.zeros(count, tokens, width), torch.zeros(count, tokens, dtype=torch.bool))
        blocks: list[tuple[float, list[Block], TextBlock, Block]] = [
            (1.0, [empty], empty, no_style),
            (scales.target, [target], target, no_style),
        ]
        if words is not None:
            said = self.text_encoder.encode(words)
            blocks.append((scales.words, [target, said], target, no_style))
        if style is not None:
            seen = Block(style, torch.ones(style.shape[:2], dtype=torch.bool))
            blocks.append((scales.style, [*blocks[-1][1], seen], target, seen))
        following = [scale for scale, *_ in blocks[1:]] + [0.0]
        return [
            (scale - after, parts, pool_condition(pooled.pooled, look))
            for (scale, parts, pooled, look), after in zip(blocks, following, strict=True)
            if abs(scale - after) > 1e-9
        ]

    def _guided(self, latents: Tensor, time: float, branches: list[tuple[float, list[Block], Tensor]]) -> Tensor:
        times = torch.full((len(latents),), time)
        outputs = [
            coefficient * self.model.at_model_times(latents, times, blocks, pooled).float()
            for coefficient, blocks, pooled in branches
        ]
        return torch.stack(outputs).sum(0)
