"""The embedded denoiser with its style encoder."""

from __future__ import annotations

from torch import Tensor, nn

from pmg.models.diffusion.conditioning import Block, join
from pmg.models.diffusion.interfaces import Denoiser
from pmg.models.diffusion.noise_processes import NoiseProcess
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

    def forward(self, noisy: Tensor, times: Tensor, target: Block, *preference: Block) -> Tensor:
        """Returns the denoiser's output `(B, C, h, w)`.

        Args:
            noisy: latents `(B, C, h, w)`.
            times: of the process, `(B,)`.
            target: what is drawn.
            preference: words and style tokens.
        """
        inputs = self.denoiser.adapter.prepare(join(target, *preference))
        return self.denoiser(noisy, self.process.model_times(times), inputs)
