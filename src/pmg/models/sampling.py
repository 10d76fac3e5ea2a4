"""Sampling: diffusers' DPM-Solver++ guided by any number of conditions in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from pmg.models.conditioning import Condition, stack
from pmg.models.generator import Generator


def combine(outputs: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Mixes predictions by coefficients that sum to 1, written as steps away from the first of them.

    With coefficients (1 - s, s) that is classifier-free guidance (Ho & Salimans 2022, equation 6 with ``s = 1 + w``).
    """
    first, *others = outputs
    result = first
    for output, coefficient in zip(others, coefficients[1:], strict=True):
        result = result + coefficient * (output - first)
    return result


@torch.no_grad()
def sample_latents(
    generator: Generator, branches: Sequence[Condition], coefficients: Sequence[float], noise: Tensor, steps: int
) -> Tensor:
    """Denoises a batch from `noise`.

    Args:
        generator: frozen models.
        branches: conditions, each of one row a latent; all go through the denoiser in one batch.
        coefficients: of each branch's prediction, summing to 1.
        noise: N(0, 1), `(B, C, h, w)`.
        steps: solver steps; each costs a denoiser evaluation a branch and latent.

    Returns:
        Latents `(B, C, h, w)`.
    """
    scheduler = DPMSolverMultistepScheduler.from_config(
        generator.noise_scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps, device=noise.device)
    condition = stack(branches)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        repeated = scheduler.scale_model_input(torch.cat([latents] * len(branches)), timestep)
        output = generator.predict(repeated, timestep.expand(len(repeated)), condition).float()
        output = combine(output.chunk(len(branches)), coefficients)
        latents = scheduler.step(output, timestep, latents).prev_sample
    return latents
