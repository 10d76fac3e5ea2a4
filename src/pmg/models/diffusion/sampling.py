"""Sampling: a scheduler of diffusers, guided by any number of conditions in one batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from pmg.models.diffusion.conditioning import Condition, stack
from pmg.models.diffusion.generator import Generator


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
    generator: Generator, branches: Sequence[Condition], coefficients: Sequence[float], noise: Tensor, steps: int,
    guidance: float | None = None, seeds: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """Denoises a batch from `noise`.

    Args:
        generator: frozen models.
        branches: conditions, each of one row a latent; all go through the denoiser in one batch.
        coefficients: of each branch's prediction, summing to 1.
        noise: N(0, 1), `(B, C, h, w)`.
        steps: solver steps; each costs a denoiser evaluation a branch and latent.
        guidance: scale for models that take it as an input.
        seeds: of each latent, for samplers that add noise on the way; None: 0 to B - 1.

    Returns:
        Latents `(B, C, h, w)`, where the models stand.
    """
    sampler, device = generator.new_sampler(), generator.device
    sampler.set_timesteps(steps, device=device)
    condition = generator.receive(stack(branches))
    kept = generator.read(condition)
    latents = noise.to(device) * sampler.init_noise_sigma
    draws = _draws(sampler, seeds if seeds is not None else range(len(noise)))
    for timestep in sampler.timesteps:
        repeated = sampler.scale_model_input(torch.cat([latents] * len(branches)), timestep)
        output = generator.predict(repeated, timestep.expand(len(repeated)), condition, guidance, kept)
        output = combine(output.chunk(len(branches)), coefficients)
        latents = sampler.step(output, timestep, latents, **draws).prev_sample
    return latents


def _draws(sampler: SchedulerMixin, seeds: Sequence[int]) -> dict[str, list[torch.Generator]]:
    """A generator for each latent, so that its noise doesn't depend on the batch; nothing for samplers without."""
    if "generator" not in inspect.signature(sampler.step).parameters:
        return {}
    return {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
