"""Noise processes: how training mixes noise into clean latents, and what the denoiser is trained to predict.

    process = FlowMatching()
    times = process.sample_times(len(latents), rng)
    sample = process.add_noise(latents, noise, times)
    loss = denoising_loss(denoiser(sample.noisy, process.model_times(times), inputs), sample)

Shapes: `B` batch, `C, h, w` latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from diffusers.training_utils import compute_snr
from torch import Tensor

from pmg.configuration.ranges import Positive


@dataclass(frozen=True)
class NoisySample:
    """Noisy latents and the denoiser's target, `(B, C, h, w)` each, and the weight of each sample's error, `(B,)`."""

    noisy: Tensor
    target: Tensor
    weight: Tensor


class NoiseProcess(Protocol):
    """A path from clean latents to noise: how times are sampled, how noise is mixed in, how it is removed."""

    def sample_times(self, count: int, rng: torch.Generator) -> Tensor:
        """Returns random times of the process, `(count,)`."""

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> NoisySample:
        """Returns the latents at `times` `(B,)` of the path from `clean` to `noise`, both `(B, C, h, w)`."""

    def model_times(self, times: Tensor) -> Tensor:
        """Returns `times` `(B,)` in the unit of the denoiser's time embedding."""

    def new_sampler(self) -> SchedulerMixin:
        """Returns a diffusers scheduler, in its initial state, that solves the reverse process."""


def denoising_loss(output: Tensor, sample: NoisySample) -> Tensor:
    """Returns the weighted squared error of each sample, `(B,)`."""
    return (output.float() - sample.target.float()).square().flatten(1).mean(1) * sample.weight


class FlowMatching:
    """Rectified flow (Liu et al. 2023; Lipman et al. 2023): a straight path; the target is its velocity.

    Args:
        mean: of the normal distribution whose sigmoid the times follow (Esser et al. 2024, equation 19).
        deviation: of that distribution.
        shift: of the times towards noise, larger for larger images (Esser et al. 2024, equation 23); 1: none.
        sampling_shift: of the times at which DPM-Solver++ evaluates the flow; None: as in training.
        sampler: another scheduler that solves the flow, with a shift of its own; None: DPM-Solver++.
    """

    UNIT = 1000.0  # diffusers' time embeddings expect times up to 1000

    def __init__(
        self, mean: float = 0.0, deviation: float = 1.0, shift: Positive = 1.0, sampling_shift: Positive | None = None,
        sampler: SchedulerMixin | None = None,
    ) -> None:  # fmt: skip
        self.mean, self.deviation, self.shift = mean, deviation, shift
        self.sampler = sampler or DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=sampling_shift or shift,
            algorithm_type="dpmsolver++",
        )  # fmt: skip

    def sample_times(self, count: int, rng: torch.Generator) -> Tensor:
        """Returns times in (0, 1), 1 is pure noise, `(count,)`."""
        times = torch.sigmoid(self.mean + self.deviation * torch.randn(count, generator=rng))
        return self.shift * times / (1 + (self.shift - 1) * times)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> NoisySample:
        """Returns ``(1 - t) clean + t noise`` with the target ``noise - clean``, all weights 1."""
        part = times.view(-1, 1, 1, 1)
        return NoisySample(torch.lerp(clean, noise, part), noise - clean, torch.ones_like(times))

    def model_times(self, times: Tensor) -> Tensor:
        """Returns the times in [0, 1000]."""
        return times * self.UNIT

    def new_sampler(self) -> SchedulerMixin:
        """Returns the sampler in its initial state."""
        return type(self.sampler).from_config(self.sampler.config)


class VariancePreserving:
    """The discrete diffusion of Ho et al. 2020, as a diffusers scheduler describes it.

    `snr_gamma` is the ceiling of min-SNR weights (Hang et al. 2023, equations 5 and 6); None: all weights 1. `sampler`
    solves the reverse process; None: DPM-Solver++ on the same betas.
    """

    def __init__(
        self, scheduler: DDPMScheduler, snr_gamma: Positive | None = 5.0, sampler: SchedulerMixin | None = None
    ) -> None:
        self.scheduler, self.snr_gamma = scheduler, snr_gamma
        self.sampler = sampler or DPMSolverMultistepScheduler.from_config(
            scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
        )

    def sample_times(self, count: int, rng: torch.Generator) -> Tensor:
        """Returns whole time steps, int64 `(count,)`."""
        return torch.randint(self.scheduler.config.num_train_timesteps, (count,), generator=rng)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> NoisySample:
        """Returns the scheduler's mixture; the target follows its ``prediction_type``."""
        kind = self.scheduler.config.prediction_type
        targets = {"epsilon": noise, "sample": clean}
        target = targets[kind] if kind in targets else self.scheduler.get_velocity(clean, noise, times)
        weight = torch.ones(len(times), device=times.device)
        if self.snr_gamma is not None:
            snr = compute_snr(self.scheduler, times)
            clipped = snr.clamp(max=self.snr_gamma)
            weight = {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[kind]
        return NoisySample(self.scheduler.add_noise(clean, noise, times), target, weight)

    def model_times(self, times: Tensor) -> Tensor:
        """Returns the time steps as they are."""
        return times

    def new_sampler(self) -> SchedulerMixin:
        """Returns the sampler in its initial state."""
        return type(self.sampler).from_config(self.sampler.config)
