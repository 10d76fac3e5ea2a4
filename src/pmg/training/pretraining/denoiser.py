"""Pretraining of the denoiser, on latents of the catalogue, with independently dropped blocks."""

from __future__ import annotations

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor

from pmg.configuration.ranges import Decay
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.training.datamodule import Batch
from pmg.training.ema import AveragedWeights
from pmg.training.latents import Latents
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers
from pmg.training.pretraining.encoded_captions import PARTS, CaptionBank


class LatentBatches:
    """Collates catalogue rows into denoising batches.

    Args:
        latents: normalised latents of the whole catalogue, `(N, C, h, w)`.
        bank: encoded captions.
        generator: samples noise and times.
        drop: chance to drop each part.
    """

    def __init__(
        self, latents: Latents, bank: CaptionBank, generator: DiffusionGenerator, drop: Mapping[str, float]
    ) -> None:
        self.latents, self.bank, self.generator, self.drop = latents, bank, generator, drop

    def __call__(self, rows: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch for `rows` `(B,)`; all its randomness comes from `rng`."""
        batch = {"latents": self.latents[rows], **self.generator.sample_inputs(len(rows), rng)}
        for part, chosen in self.bank.draw(rows, rng).items():
            batch[part] = chosen
            batch[f"keep_{part}"] = torch.rand(len(rows), generator=rng) >= self.drop[part]
        return batch


class DenoiserTraining(pl.LightningModule):
    """Trains the denoiser; its weights are replaced by their moving average at the end.

    Args:
        generator: holds the denoiser to train; everything else in it stays frozen.
        bank: encoded captions.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
        ema_decay: decay of the moving average.
    """

    def __init__(
        self, generator: DiffusionGenerator, bank: CaptionBank, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, ema_decay: Decay,
    ) -> None:  # fmt: skip
        super().__init__()
        self.denoiser = generator.denoiser.model.requires_grad_(True).train()
        self._generator = (generator,)  # in a tuple: frozen parts stay out of checkpoints
        self.bank = bank
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.average = AveragedWeights(self.denoiser, ema_decay, power=0.75)

    def loss(self, batch: Batch) -> Tensor:
        """Returns the denoising loss of each image, `(B,)`."""
        chosen = {part: batch[part] for part in PARTS}
        condition = self.bank.condition(chosen, {part: batch[f"keep_{part}"] for part in PARTS})
        (generator,) = self._generator
        return generator.loss(batch["latents"], condition, batch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One denoising step."""
        loss = self.loss(batch).mean()
        self.log("train/denoise", loss, prog_bar=True, batch_size=len(batch["latents"]))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """The loss on held-out drawings with fixed noise and times."""
        losses = self.loss(batch)
        self.log("val/denoise", losses.mean(), prog_bar=True, batch_size=len(losses))

    def configure_callbacks(self) -> list[pl.Callback]:
        """Returns the moving average."""
        return [self.average]

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.denoiser, self.optimizer, self.lr_scheduler)


def fixed_batches(collate: LatentBatches, rows: Tensor, batch_size: int, seed: int) -> list[Batch]:
    """Validation batches with nothing dropped and noise that never changes."""
    batches = []
    for number, part in enumerate(rows.split(batch_size)):
        batch = collate(part, torch.Generator().manual_seed(seed + number))
        batches.append({k: torch.ones_like(v) if k.startswith("keep_") else v for k, v in batch.items()})
    return batches
