"""Pretraining of the autoencoder between pixels and latents."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pmg.configuration.ranges import NotNegative
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers


class AutoencoderTraining(pl.LightningModule):
    """L1 + LPIPS + KL on images.

    Args:
        autoencoder: the model to train.
        perceptual: frozen LPIPS.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
        perceptual_weight: weight of LPIPS beside L1.
        kl_weight: weight of the mean KL divergence of a latent element from N(0, 1).
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        perceptual: PerceptualDistance,
        optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial,
        perceptual_weight: NotNegative = 0.3,
        kl_weight: NotNegative = 1e-3,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.perceptual = perceptual
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.perceptual_weight = perceptual_weight
        self.kl_weight = kl_weight

    def _step(self, images: Tensor, split: str) -> Tensor:
        posterior = self.autoencoder.encode(images).latent_dist
        latents = posterior.sample() if split == "train" else posterior.mean
        restored = self.autoencoder.decode(latents).sample
        terms = {
            "l1": (restored - images).abs().mean(),
            "lpips": self.perceptual(restored, images).mean(),
            "kl": posterior.kl().mean() / latents[0].numel(),
        }
        self.log_dict({f"{split}/{name}": value for name, value in terms.items()}, prog_bar=True)
        return terms["l1"] + self.perceptual_weight * terms["lpips"] + self.kl_weight * terms["kl"]

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """One step on ``images`` `(B, 3, H, W)` in [-1, 1]."""
        return self._step(batch["images"], "train")

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Logs the same terms on held-out drawings, without sampling."""
        self._step(batch["images"], "val")

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.autoencoder, self.optimizer, self.lr_scheduler)

    @torch.no_grad()
    def measure_latents(self, images: Tensor, batch_size: int = 64) -> None:
        """Writes the latents' mean and deviation per channel into the model's config, where pipelines look."""
        latents = torch.cat([self.autoencoder.encode(part).latent_dist.mean for part in images.split(batch_size)])
        self.autoencoder.register_to_config(
            latents_mean=latents.mean((0, 2, 3)).tolist(), latents_std=latents.std((0, 2, 3)).tolist()
        )
