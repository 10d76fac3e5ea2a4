"""Sampling: diffusers' DPM-Solver++ with classifier-free guidance, any number of conditions in one batch."""

from __future__ import annotations

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from pmg.models.conditioning import Condition, stack
from pmg.models.generator import Generator


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022, equation 6 with ``scale = 1 + w``)."""
    return unconditional + scale * (conditional - unconditional)


@torch.no_grad()
def sample_latents(
    generator: Generator,
    condition: Condition,
    unconditional: Condition,
    noise: Tensor,
    steps: int,
    guidance: float,
) -> Tensor:
    """Denoises a batch from `noise`.

    Args:
        generator: frozen models.
        condition: one row a latent.
        unconditional: the condition to guide away from, same batch.
        noise: N(0, 1), `(B, C, h, w)`.
        steps: solver steps; each costs two denoiser evaluations a latent.
        guidance: guidance scale; 1 follows the condition alone.

    Returns:
        Latents `(B, C, h, w)`.
    """
    scheduler = DPMSolverMultistepScheduler.from_config(
        generator.noise_scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps, device=noise.device)
    both = stack([unconditional, condition])
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        doubled = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        output = generator.predict(doubled, timestep.expand(len(doubled)), both).float()
        output = guide(*output.chunk(2), guidance)
        latents = scheduler.step(output, timestep, latents).prev_sample
    return latents
