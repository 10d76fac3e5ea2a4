"""Denoisers that are transformers over patches of latents, and the flow of diffusers' pipelines of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pmg.domain import PmgError
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import ConditionAdapter
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.sequences import PATCH

TRAINING_STEPS = 50  # for whose shift times are sampled, where the shift depends on the number of solver steps


class PatchDenoiser(DiffusersDenoiser):
    """A transformer whose image tokens are 2 x 2 latents, else PmgError; subclasses call the model."""

    folder = "transformer"

    def __init__(self, model: Any, adapter: ConditionAdapter, sample_size: int | None) -> None:
        super().__init__(model, adapter, sample_size)
        if self.sample_size % PATCH:
            raise PmgError(
                f"latents of {self.sample_size} a side can't be cut into patches of {PATCH}: set generator.size to a "
                "multiple of the patches' size in pixels"
            )


class PackedDenoiser(PatchDenoiser):
    """A `PatchDenoiser` whose model has ``in_channels`` of an image token, not of a latent."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.in_channels // PATCH**2, self.sample_size, self.sample_size


class PipelineEuler(FlowMatchEulerDiscreteScheduler):
    """Euler steps from time 1 to 1 / n at equal distances, shifted towards noise by `mu` of the number of steps."""

    mu: Callable[[int], float]

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None, **_: Any) -> None:
        """Sets the times of a number of steps."""
        times = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps).tolist()
        super().set_timesteps(device=device, sigmas=times, mu=self.mu(num_inference_steps))

    def stretch_shift_to_terminal(self, t: np.ndarray) -> np.ndarray:
        """Stretches times, the last of several to the checkpoint's; a single one remains."""
        return super().stretch_shift_to_terminal(t) if len(t) > 1 else t


class PipelineFlow(FlowMatching):
    """A rectified flow whose times are shifted as in the family's pipeline.

    Training samples from a logit-normal distribution under the same shift, with all weights 1 (Esser et al. 2024).
    `mu` returns the parameter of the shift for a number of steps, at the generator's image size; it is used where the
    checkpoint's `scheduler` has ``use_dynamic_shifting``.
    """

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler, mu: Callable[[int], float]) -> None:
        config = scheduler.config
        exponential = config.time_shift_type == "exponential"
        dynamic = math.exp(mu(TRAINING_STEPS)) if exponential else mu(TRAINING_STEPS)
        super().__init__(shift=dynamic if config.use_dynamic_shifting else config.shift, sampler=scheduler)
        self.mu = mu

    def new_sampler(self) -> PipelineEuler:
        """Returns the sampler in its initial state."""
        sampler = PipelineEuler.from_config(self.sampler.config)
        sampler.mu = self.mu
        return sampler


def linear_mu(scheduler: FlowMatchEulerDiscreteScheduler, image_tokens: int) -> float:
    """Returns the parameter of the shift for a number of image tokens, by the line in a scheduler's config."""
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return image_tokens * slope + config.base_shift - slope * config.base_image_seq_len
