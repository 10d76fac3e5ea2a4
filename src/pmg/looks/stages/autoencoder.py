"""Pretraining of the autoencoder between pixels and latents, with a decoder that is robust to noise on the latents."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderDC
from torch import Tensor

from pmg.configuration.ranges import NotNegative
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers

SCALE_WEIGHT = 0.01  # of the squared logarithm of the latents' scale: keeps it near 1


class LookAutoencoderTraining(pl.LightningModule):
    """L1 + LPIPS on pictures, half of them decoded from latents with noise.

    A denoiser's latents are never exact. The decoder sees latents with Gaussian noise whose deviation is uniform in
    [0, `latent_noise`] times that of the latents, for half of each batch, and restores the clean picture.

    Args:
        autoencoder: the model to train.
        perceptual: frozen LPIPS.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
        perceptual_weight: weight of LPIPS beside L1.
        latent_noise: largest deviation of the noise on latents, in deviations of the latents.
    """

    def __init__(
        self, autoencoder: AutoencoderDC, perceptual: PerceptualDistance, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, perceptual_weight: NotNegative = 0.5, latent_noise: NotNegative = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.autoencoder, self.perceptual = autoencoder, perceptual
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.perceptual_weight, self.latent_noise = perceptual_weight, latent_noise

    def _step(self, images: Tensor, split: str) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        latents = self.autoencoder.encode(images).latent
        restored = self.autoencoder.decode(self._disturb(latents) if split == "train" else latents).sample
        terms = {
            "l1": (restored.float() - images).abs().mean(),
            "lpips": self.perceptual(restored, images).float().mean(),
            "scale": latents.float().square().mean().sqrt(),
        }
        self.log_dict({f"{split}/{name}": value for name, value in terms.items()}, prog_bar=True)
        drift = terms["scale"].log().square()
        return terms["l1"] + self.perceptual_weight * terms["lpips"] + SCALE_WEIGHT * drift

    def _disturb(self, latents: Tensor) -> Tensor:
        """Adds noise to half of the latents `(B, C, h, w)`.

        Gradients go through the deviation: a constant one is outgrown by latents of ever larger scale.
        """
        deviation = latents.float().std((0, 2, 3), keepdim=True)
        shape, device = (len(latents), 1, 1, 1), latents.device
        strength = torch.rand(shape, device=device) * self.latent_noise * (torch.rand(shape, device=device) < 0.5)
        return latents + (strength * deviation * torch.randn(latents.shape, device=device)).to(latents.dtype)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """One step on ``images`` `(B, 3, H, W)` in [-1, 1]."""
        return self._step(batch["images"], "train")

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Logs the same terms on held-out pictures, without noise."""
        self._step(batch["images"], "val")

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.autoencoder, self.optimizer, self.lr_scheduler)
