"""A generator: the UNet of the tests, under a noise process of one's own."""

import torch
from torch import Tensor

from pmg.configuration.ranges import Seed
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.tiny_models import tiny_generator


class UniformFlow(FlowMatching):
    """Rectified flow whose times are uniform (Liu et al. 2023)."""

    def sample_times(self, count: int, rng: torch.Generator) -> Tensor:
        """Returns times in [0, 1), `(count,)`."""
        return torch.rand(count, generator=rng)


def build_generator(text_encoder: TextEncoder, seed: Seed = 0) -> DiffusionGenerator:
    """Returns a UNet with random weights, 64 px, whose process is `UniformFlow`."""
    unet = tiny_generator(text_encoder, seed)
    return DiffusionGenerator(unet.codec, unet.denoiser, UniformFlow(), text_encoder).freeze()
