"""The latent diffusion generator: frozen parts under one roof, and the denoising loss.

Sampling steps are the schedulers' business (diffusers), see `pmg.generation.pipeline`.
Shapes: `B` batch, `C, h, w` latents, `H, W` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from rich.progress import track
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.losses import min_snr_weight, per_sample_mse
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import Kept, attention_for, read_condition
from pmg.models.diffusion.denoiser_inputs import check_denoiser, denoiser_inputs
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.weight_sources import load_part
from pmg.models.vision.image_sizes import fit_size

PIXELS_AT_ONCE = 2**21  # 512 images of 64 pixels a side, 8 of 512, 2 of 1024
PIXELS_IN_CACHES = 2**15  # on a processor: 8 images of 64 pixels a side, 1.5 times faster than 50 of them


@dataclass(frozen=True)
class DenoisingOutputs:
    """The outputs of a training step of the denoiser.

    Attributes:
        loss: weighted error of each sample, `(B,)`.
        noisy_latents: what the denoiser saw, `(B, C, h, w)`.
        prediction: its output, `(B, C, h, w)`, float32.
        target: what the prediction is compared with, `(B, C, h, w)`.
    """

    loss: Tensor
    noisy_latents: Tensor
    prediction: Tensor
    target: Tensor


class Generator(nn.Module):
    """Autoencoder, denoiser, noise scheduler and text encoder.

    Args:
        autoencoder: pixels <-> latents; its config's ``latents_mean`` and ``latents_std`` normalise each channel.
        denoiser: the UNet.
        noise_scheduler: adds noise in training.
        text_encoder: encodes target and keyword blocks.
        sampler: takes the noise away; None: DPM-Solver++ on the noise scheduler's config.
        size: of the images in pixels; None: what the denoiser was trained at.

    Raises:
        PmgError: the denoiser is none that makes images from text.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        denoiser: UNet2DConditionModel,
        noise_scheduler: DDPMScheduler,
        text_encoder: TextEncoder,
        sampler: SchedulerMixin | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        check_denoiser(denoiser, autoencoder.config.latent_channels)
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.noise_scheduler = noise_scheduler
        self.text_encoder = text_encoder
        self.scale = 2 ** (len(autoencoder.config.block_out_channels) - 1)  # pixels a latent
        self.size = size or denoiser.config.sample_size * self.scale
        if self.size % self.scale:
            raise PmgError(f"generator.size is {self.size}; it must be a multiple of {self.scale} pixels")
        self.denoiser.set_attn_processor(attention_for(self.latent_shape))
        self.sampler = sampler or DPMSolverMultistepScheduler.from_config(
            noise_scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
        )

    @classmethod
    def from_folder(cls, folder: str, text_encoder: TextEncoder) -> Generator:
        """Loads a diffusers folder with ``vae``, ``unet`` and ``scheduler``, frozen.

        Raises:
            PmgError: a part is missing or damaged.
        """
        return cls(
            load_part(AutoencoderKL, Path(folder, "vae")).float(),
            load_part(UNet2DConditionModel, Path(folder, "unet")).float(),
            load_part(DDPMScheduler, Path(folder, "scheduler")),
            text_encoder,
        ).freeze()

    def freeze(self) -> Generator:
        """No gradients for any weight, evaluation mode."""
        return self.requires_grad_(False).eval()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of one latent."""
        return self.denoiser.config.in_channels, self.size // self.scale, self.size // self.scale

    @property
    def device(self) -> torch.device:
        """Where the models stand."""
        return self.denoiser.device

    @property
    def images_at_once(self) -> int:
        """Images in one pass of the autoencoder, whose layers at full resolution take most memory."""
        pixels = PIXELS_IN_CACHES if self.device.type == "cpu" else PIXELS_AT_ONCE
        return max(1, pixels // self.size**2)

    @property
    def guidance_input(self) -> bool:
        """Whether guidance is distilled into the denoiser, which takes its scale as an input (LCM)."""
        return bool(self.denoiser.config.time_cond_proj_dim)

    def new_sampler(self) -> SchedulerMixin:
        """A sampler at its start."""
        return type(self.sampler).from_config(self.sampler.config)

    def _latent_statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config = self.autoencoder.config
        if config.latents_mean is None:
            return latents.new_zeros(()), latents.new_tensor(1 / config.scaling_factor)
        view = (1, -1, 1, 1)
        return latents.new_tensor(config.latents_mean).view(view), latents.new_tensor(config.latents_std).view(view)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` in [-1, 1], of any size, to normalised latents `(B, C, h, w)` (the posterior's mean).

        They are on the processor, wherever the models stand.
        """
        return torch.cat([self._encode(part) for part in images.split(self.images_at_once)])

    def _encode(self, images: Tensor) -> Tensor:
        fitting = fit_size(images, self.size).to(self.device)
        latents = self.autoencoder.encode(fitting).latent_dist.mean.float()
        mean, std = self._latent_statistics(latents)
        return ((latents - mean) / std).cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents to images in [-1, 1], on the processor."""
        return torch.cat([self._decode(part) for part in latents.split(self.images_at_once)])

    def _decode(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.device)
        mean, std = self._latent_statistics(latents)
        return self.autoencoder.decode(latents * std + mean).sample.float().clamp(-1, 1).cpu()

    def receive(self, condition: Condition) -> Condition:
        """The condition where the denoiser stands, in the type that its layers read: cast once for all of them."""
        kind = self.device.type
        lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return condition.to(self.device, torch.get_autocast_dtype(kind) if lowered else self.denoiser.dtype)

    def read(self, condition: Condition) -> Kept:
        """Keys and values of a condition, which stay the same from step to step."""
        return read_condition(self.denoiser, self.receive(condition).tokens)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, condition: Condition, guidance: float | None = None,
        kept: Kept | None = None,
    ) -> Tensor:  # fmt: skip
        """The denoiser's output for noisy latents `(B, C, h, w)` at `timesteps` `(B,)`, float32, on its device.

        `guidance` is for models that take its scale as an input, see `guidance_input`; `kept` is what `read` gave for
        the same condition, where it is needed more than once.
        """
        condition = self.receive(condition)
        inputs = denoiser_inputs(self.denoiser, condition, self.size, guidance, kept)
        return self.denoiser(
            noisy.to(self.device, self.denoiser.dtype), timesteps.to(self.device), condition.tokens,
            encoder_attention_mask=condition.mask, **inputs,
        ).sample.float()  # fmt: skip

    def denoising_loss(
        self, latents: Tensor, noise: Tensor, timesteps: Tensor, condition: Condition, snr_gamma: float | None = 5.0
    ) -> Tensor:
        """Returns the weighted denoising error of each sample, `(B,)`; takes what `denoising_outputs` takes."""
        return self.denoising_outputs(latents, noise, timesteps, condition, snr_gamma).loss

    def denoising_outputs(
        self, latents: Tensor, noise: Tensor, timesteps: Tensor, condition: Condition, snr_gamma: float | None = 5.0
    ) -> DenoisingOutputs:
        """Adds noise, predicts, and compares.

        Args:
            latents: clean, `(B, C, h, w)`, on any device, as all of these.
            noise: same shape, N(0, 1).
            timesteps: int64 `(B,)`.
            condition: of the same batch.
            snr_gamma: min-SNR ceiling, or None for the plain error.
        """
        scheduler = self.noise_scheduler
        prediction_type = scheduler.config.prediction_type
        latents, noise, timesteps = (part.to(self.device) for part in (latents, noise, timesteps))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        target = {
            "epsilon": lambda: noise,
            "sample": lambda: latents,
            "v_prediction": lambda: scheduler.get_velocity(latents, noise, timesteps),
        }[prediction_type]()
        prediction = self.predict(noisy, timesteps, condition)
        loss = per_sample_mse(prediction, target)
        if snr_gamma is not None:
            loss = loss * min_snr_weight(compute_snr(scheduler, timesteps), snr_gamma, prediction_type)
        return DenoisingOutputs(loss, noisy, prediction, target)


@torch.no_grad()
def restore(autoencoder: AutoencoderKL, images: Tensor, batch_size: int = 128) -> Tensor:
    """Images `(B, 3, H, W)` in [-1, 1] through the autoencoder and back."""
    parts = track(images.split(batch_size), description="Restoring drawings")
    return torch.cat([autoencoder.decode(autoencoder.encode(x).latent_dist.mean).sample for x in parts]).clamp(-1, 1)
