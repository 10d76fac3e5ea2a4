"""The embedded denoiser with its style encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pmg.models.diffusion.conditioning import Block, Condition
from pmg.models.diffusion.interfaces import Denoiser, NoiseProcess
from pmg.models.diffusion.style_encoder import StyleEncoder


class LookDenoiser(nn.Module):
    """A denoiser with its style encoder.

    Args:
        denoiser: takes target, words and style as one sequence, and the pooled vectors of target and style.
        style_encoder: reads reference pictures.
        process: the noise process.
    """

    def __init__(self, denoiser: Denoiser, style_encoder: StyleEncoder, process: NoiseProcess) -> None:
        super().__init__()
        self.denoiser, self.style_encoder, self.process = denoiser, style_encoder, process

    def forward(self, noisy: Tensor, times: Tensor, blocks: list[Block], pooled: Tensor) -> Tensor:
        """Returns the denoiser's output `(B, C, h, w)`.

        Args:
            noisy: latents `(B, C, h, w)`.
            times: of the process, `(B,)`.
            blocks: of the condition.
            pooled: `(B, 2 * D)`, see `pool_condition`.
        """
        return self.at_model_times(noisy, self.process.model_times(times), blocks, pooled)

    def at_model_times(self, noisy: Tensor, times: Tensor, blocks: list[Block], pooled: Tensor) -> Tensor:
        """As `forward`, with `times` `(B,)` in the unit of the time embedding, as samplers give them."""
        tokens = torch.cat([block.tokens for block in blocks], 1)
        mask = torch.cat([block.mask for block in blocks], 1)
        condition = Condition(tokens, mask, pooled)
        return self.denoiser(noisy, times, self.denoiser.adapter.prepare(condition))


def pool_condition(target: Tensor, style: Block) -> Tensor:
    """Returns the vector of the time embedding, `(B, 2 * D)`: the target's pooled vector and the mean style token.

    The mean is zero where the style block is hidden.
    """
    visible = style.mask[..., None]
    mean = (style.tokens * visible).sum(1) / visible.sum(1).clamp(min=1)
    return torch.cat([target, mean], 1)
