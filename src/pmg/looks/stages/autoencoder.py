"""Pretraining of the autoencoder between pixels and latents, with a decoder that is robust to noise on the latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from torch import Tensor, nn

from pmg.configuration.ranges import Count, NotNegative
from pmg.data.picture_groups import PictureGroups
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, load_weights, save_half
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

SCALE_WEIGHT = 0.01  # of the squared logarithm of the latents' scale: keeps it near 1
STATISTICS_PICTURES = 4096  # of the latents' mean and deviation


class LookAutoencoderTraining(OptimizedModule):
    """L1 + LPIPS on pictures, half of them decoded from latents with noise.

    A denoiser's latents are never exact. The decoder sees latents with Gaussian noise whose deviation is uniform in
    [0, `latent_noise`] times that of the latents, for half of each batch, and restores the clean picture. LPIPS has
    `perceptual_weight` beside L1.
    """

    trained = "autoencoder"

    def __init__(
        self, autoencoder: AutoencoderDC, perceptual: PerceptualDistance, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, perceptual_weight: NotNegative = 0.5, latent_noise: NotNegative = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.autoencoder, self.perceptual = autoencoder, perceptual
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


class PictureStage:
    """A model of single pictures, on every picture that is not held out.

    `start` is the folder of an earlier training, whose weights are trained further; None: from scratch. PmgError if it
    is missing, or holds a model of other sizes.
    """

    module: Any

    def __init__(
        self, folder: str, model: nn.Module, perceptual: PerceptualDistance, batch_size: int, start: str | None
    ) -> None:
        self.folder, self.perceptual, self.batch_size = folder, perceptual, batch_size
        if start is not None:
            load_weights(model, Path(start))

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Returns the training and batches of ``images``: each as the data set varies it, and of held-out ones."""
        train = data.picture_source("train")

        def collate(rows: Tensor, rng: torch.Generator) -> Batch:
            """Returns the pictures of `rows` `(B,)`."""
            return {"images": train.draw(rows, rng)}

        fixed = [{"images": images} for images in fixed_pictures(data, seed).split(VALIDATION_BATCH)]
        rows = ShuffledRows(torch.arange(len(train)), self.batch_size, seed, collate)
        return self.module, RowsDataModule(rows, fixed)


class LookAutoencoderStage(PictureStage):
    """Pixels <-> latents by L1 + LPIPS, see `PictureStage`."""

    def __init__(
        self, folder: str, autoencoder: AutoencoderDC, perceptual: PerceptualDistance,
        training: Callable[[AutoencoderDC, PerceptualDistance], LookAutoencoderTraining], batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, autoencoder, perceptual, batch_size, start)
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # 1.1 times faster on processors
        self.module = training(self.autoencoder, perceptual)

    def save_and_evaluate(self, built: Built, data: PictureGroups) -> dict[str, float]:
        """Measures the latents' statistics, saves, and restores held-out pictures."""
        self.autoencoder.eval()
        train = data.picture_source("train")
        some = torch.arange(0, len(train), max(1, len(train) // STATISTICS_PICTURES))
        codec = AutoencoderDCCodec.measure(self.autoencoder, train.draw(some, seeded("latent statistics")))
        save_half(self.autoencoder, self.folder)
        codec.save_statistics(self.folder)
        images = fixed_pictures(data, 0)
        restored = codec.decode(codec.encode(images))
        return measure_restored(self.perceptual, restored, images)


@torch.no_grad()
def measure_restored(perceptual: PerceptualDistance, restored: Tensor, images: Tensor) -> dict[str, float]:
    """Returns mean L1 and LPIPS of restored pictures to the pictures, `(N, 3, H, W)` in [-1, 1] each."""
    pairs = zip(restored.split(VALIDATION_BATCH), images.split(VALIDATION_BATCH), strict=True)
    distance = torch.cat([perceptual(a, b) for a, b in pairs])
    return {"l1": float((restored - images).abs().mean()), "lpips": float(distance.mean())}


def fixed_pictures(data: PictureGroups, seed: int) -> Tensor:
    """Returns held-out pictures for validation, `(N, 3, H, W)`: the same for the same seed."""
    source = data.picture_source("validation")
    return source.draw(torch.arange(min(len(source), 2 * VALIDATION_BATCH)), seeded(seed, "validation pictures"))
