"""Generation as a plain loop of diffusers: one candidate at a time, nothing kept from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor


@dataclass(frozen=True)
class NaiveGenerator:
    """Draws one image at a time.

    Attributes:
        autoencoder: of diffusers, frozen, as are all others.
        denoiser: of diffusers; predicts velocities.
        noise_scheduler: whose config the sampler takes.
        text_model: of transformers.
        text_tokenizer: its tokenizer.
        target_scale: guidance by the target.
        preference_scale: guidance by keywords and soft tokens together.
        steps: of the solver.
        bfloat16: whether matrix products run in bfloat16.
    """

    autoencoder: Any
    denoiser: Any
    noise_scheduler: Any
    text_model: Any
    text_tokenizer: Any
    target_scale: float
    preference_scale: float
    steps: int
    bfloat16: bool

    def write(self, text: str) -> tuple[Tensor, Tensor]:
        """Tokens `(1, L, D)` and the pooled vector `(1, D)` of a text."""
        tokens = self.text_model(**self.text_tokenizer(text, return_tensors="pt")).last_hidden_state
        return tokens, F.normalize(tokens.mean(1), dim=-1) * tokens.shape[-1] ** 0.5

    @torch.no_grad()
    def draw(
        self, target: str, keywords: str, soft: Tensor, preference_weight: float, target_weight: float, seed: int
    ) -> Tensor:
        """One candidate: an image `(3, H, W)` in [-1, 1]."""
        empty, empty_pooled = self.write("")
        told, told_pooled = self.write(target)
        told = told * target_weight
        preference = torch.cat([self.write(keywords)[0], soft[None]], dim=1) * preference_weight
        conditions = [empty, told, torch.cat([told, preference], dim=1)]
        length = conditions[-1].shape[1]
        tokens = torch.cat([F.pad(c, (0, 0, 0, length - c.shape[1])) for c in conditions])
        mask = torch.tensor([[place < c.shape[1] for place in range(length)] for c in conditions])
        pooled = torch.cat([empty_pooled, told_pooled, told_pooled])
        size = self.denoiser.config.sample_size
        noise = torch.Generator().manual_seed(seed)
        latents = torch.randn(self.denoiser.config.in_channels, size, size, generator=noise)[None]
        sampler = DPMSolverMultistepScheduler.from_config(
            self.noise_scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
        )
        sampler.set_timesteps(self.steps)
        for timestep in sampler.timesteps:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                output = self.denoiser(
                    torch.cat([latents] * 3), timestep, tokens, encoder_attention_mask=mask, class_labels=pooled
                ).sample.float()
            nothing, target_alone, everything = output.chunk(3)
            guided = nothing + self.target_scale * (target_alone - nothing)
            guided = guided + self.preference_scale * (everything - target_alone)
            latents = sampler.step(guided, timestep, latents).prev_sample
        return self.decode(latents)[0].clamp(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents to images."""
        config = self.autoencoder.config
        if config.latents_mean is None:
            return self.autoencoder.decode(latents / config.scaling_factor).sample
        mean, std = (latents.new_tensor(config[f"latents_{name}"])[:, None, None] for name in ("mean", "std"))
        return self.autoencoder.decode(latents * std + mean).sample
