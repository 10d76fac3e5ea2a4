"""What the trainings of looks share: random geometry, and on pools blocks of the condition, logs, moving average."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from pmg.configuration.ranges import Decay
from pmg.looks.stages.pool import ITEMS
from pmg.models.diffusion.conditioning import Block, SoftBlock
from pmg.training.datamodule import Batch
from pmg.training.ema import AveragedWeights
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

ANGLE = math.radians(4)  # of augmented pictures
SCALE = 0.06
SHIFT = 0.1  # of half the image


class LookTraining(OptimizedModule):
    """Trains a `model` and its ``style_encoder``; their moving average, of decay `ema_decay`, is the model."""

    loss_name: str

    trained = "model"

    def __init__(
        self, model: Any, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial, ema_decay: Decay
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.model = model
        self.average = AveragedWeights(model, ema_decay, power=0.75)

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Returns the loss of each drawing, `(B,)`."""

    def blocks(self, batch: Batch) -> tuple[Block, Block, SoftBlock]:
        """Returns what a batch is conditioned on: target, words, and style tokens of each look's other drawings."""
        latents = batch["latents"]
        tokens = self.style_tokens(self.model.style_encoder.encode_pictures(latents), batch)
        target = Block(batch["target"], batch["target_mask"], batch["target_pooled"])
        words = Block(batch["words"], batch["words_mask"])
        return target, words, SoftBlock(tokens, batch["keep_style"][:, None].expand(tokens.shape[:2]))

    def style_tokens(self, features: Tensor, batch: Batch) -> Tensor:
        """Returns style tokens `(B, n, D)` of each look's other drawings, whose features are `(B, N, channels)`."""
        return self.model.style_encoder.summarise(features[reference_rows(len(features))], batch["present"])

    def held_out_losses(self, batch: Batch) -> Tensor:
        """Returns the losses of the first drawing of each look, the held-out one, `(B / ITEMS,)`."""
        return self.losses(batch)[::ITEMS]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Returns the mean loss of a batch."""
        loss = self.losses(batch).mean()
        self.log(f"train/{self.loss_name}", loss, prog_bar=True, batch_size=len(batch["latents"]))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Logs the loss on held-out cells."""
        losses = self.held_out_losses(batch)
        self.log(f"val/{self.loss_name}", losses.mean(), prog_bar=True, batch_size=len(losses))

    def configure_callbacks(self) -> list[pl.Callback]:
        """Returns the moving average."""
        return [self.average]


def reference_rows(count: int) -> Tensor:
    """Returns the rows of each row's references, int64 `(count, ITEMS - 1)`: the other drawings of its look."""
    rows = torch.arange(count)
    place, first = rows % ITEMS, rows - rows % ITEMS
    steps = torch.arange(1, ITEMS)
    return first[:, None] + (place[:, None] + steps) % ITEMS


def contrastive_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Returns the cross-entropy with several positives a row (Khosla et al. 2020, ``L_out``).

    Logits `(B, K)` of minus infinity are not compared with; `positive`, bool `(B, K)`, has at least one true a row.
    Returns `(B,)`: minus the mean log-probability of a row's positives.
    """
    log_probability = logits.log_softmax(-1).masked_fill(~positive, 0.0)
    return -log_probability.sum(-1) / positive.sum(-1)


def uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    """Returns `count` numbers in [-limit, limit]."""
    return (torch.rand(count, generator=generator) * 2 - 1) * limit


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turns, scales, shifts and (half of the time) mirrors each image `(B, 3, H, W)` by its own amount.

    For small drawings on white. Colours are left alone, since they belong to a style.
    """
    count = len(images)
    angle = uniform(count, ANGLE, generator)
    scale = 1 + uniform(count, SCALE, generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift_x, shift_y = uniform(count, SHIFT, generator), uniform(count, SHIFT, generator)
    rows = [torch.stack([cos * mirror, -sin, shift_x], 1), torch.stack([sin * mirror, cos, shift_y], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
