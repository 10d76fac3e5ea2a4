"""Sampling with a scheduler of diffusers, and the mixture of predictions that guides it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from pmg.domain import PmgError
from pmg.models.diffusion.interfaces import Start
from pmg.seeding import stable_number


def combine(outputs: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Returns predictions mixed by coefficients that sum to 1, computed as steps away from the first of them.

    With coefficients (1 - s, s) that is classifier-free guidance (Ho & Salimans 2022, equation 6 with ``s = 1 + w``).
    """
    result = first = outputs[0]
    for output, coefficient in zip(outputs[1:], coefficients[1:], strict=True):
        result = result + coefficient * (output - first)
    return result


def sample_latents(
    predict: Callable[[Tensor, Tensor], Tensor], scheduler: SchedulerMixin, noise: Tensor, seeds: Sequence[int],
    steps: int, start: Start | None = None,
) -> Tensor:  # fmt: skip
    """Returns latents `(B, C, h, w)` that a scheduler reaches from `noise`.

    PmgError if a scheduler of discrete times has fewer of them than are needed, or is PNDM with a start.

    Args:
        predict: the guided prediction for latents `(B, C, h, w)` at one time `()`.
        scheduler: in its initial state.
        noise: N(0, 1), `(B, C, h, w)`.
        seeds: of each latent, for schedulers that add noise in each step.
        steps: number of predictions.
        start: what the noise is mixed into; None: nothing.
    """
    total = _count_steps(scheduler, steps, start.strength if start else 1.0)
    if start and hasattr(scheduler, "prk_timesteps"):
        raise PmgError("PNDM can't start from an image. Leave out generator.sampler=checkpoint.")
    scheduler.set_timesteps(total, device=noise.device)
    times = scheduler.timesteps
    if start is None:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)  # schedulers of flow matching have no scale
    else:
        skipped = (total - steps) * scheduler.order
        times = times[skipped:]
        latents = _add_noise(scheduler, start.latents.to(noise), noise, times[:1], skipped)
    scale_input = getattr(scheduler, "scale_model_input", lambda scaled, _: scaled)
    rngs = _step_rngs(scheduler, seeds)
    for time in times:
        output = predict(scale_input(latents, time), time)
        latents = scheduler.step(output, time, latents, **rngs).prev_sample
    return latents


def _count_steps(scheduler: SchedulerMixin, steps: int, strength: float) -> int:
    """Returns to how many steps a scheduler is set, of which the last `steps` lead from a start; see `sample_latents`.

    diffusers takes the last of `steps` themselves, at less cost. Below a strength of 1 the first one is left out.
    """
    total = max(int(steps / strength + 0.5), steps + (strength < 1))
    config = scheduler.config
    continuous = hasattr(scheduler, "scale_noise") or config.get("use_flow_sigmas")
    most = config.get("original_inference_steps") or config.num_train_timesteps
    if total > most and not continuous:
        raise PmgError(
            f"a strength of {strength} with {steps} steps needs a solver of {total}, and a "
            f"{type(scheduler).__name__} has {most}. Set {'a larger strength or ' if strength < 1 else ''}fewer steps"
        )
    return total


def _add_noise(scheduler: SchedulerMixin, clean: Tensor, noise: Tensor, time: Tensor, step: int) -> Tensor:
    """Returns clean latents with noise of the time `(1,)` of a scheduler's step; sampling then begins at that step."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(step)
    flow = hasattr(scheduler, "scale_noise")
    return scheduler.scale_noise(clean, time, noise) if flow else scheduler.add_noise(clean, noise, time)


def _step_rngs(scheduler: SchedulerMixin, seeds: Sequence[int]) -> dict[str, list[torch.Generator]]:
    """Returns a generator for each latent, whose noise then doesn't depend on the batch, where steps take some.

    The seeds themselves make the initial noise: with the same stream, the first step would add that noise again.
    """
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    streams = (stable_number("steps", seed) % 2**62 for seed in seeds)
    return {"generator": [torch.Generator().manual_seed(stream) for stream in streams]}
