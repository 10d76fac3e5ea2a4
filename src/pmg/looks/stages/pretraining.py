"""What the stages of `pmg-pretrain` share: their interface, weights, losses, random geometry, training on pools.

A stage's `build` returns a LightningModule and its batches; `save_and_evaluate` takes both after the training, saves
the model as fp16 safetensors in the library's own folder layout and measures it on the batches of validation.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytorch_lightning as pl
import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample
from transformers import PreTrainedModel

from pmg.configuration.ranges import Decay
from pmg.domain import PmgError
from pmg.looks.drawings import LookData
from pmg.looks.stages.pool import ITEMS
from pmg.models.diffusion.conditioning import Block, SoftBlock
from pmg.models.loading.weight_sources import load_part
from pmg.training.datamodule import Batch, RowsDataModule
from pmg.training.ema import AveragedWeights
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers

Built = tuple[pl.LightningModule, RowsDataModule]
VALIDATION_BATCH = 128  # drawings
ANGLE, SCALE, SHIFT = math.radians(4), 0.06, 0.1  # of augmented pictures; the shift in halves of the image
Model = TypeVar("Model", bound=nn.Module)


class Stage(Protocol):
    """One embedded model's training."""

    def build(self, data: Any, seed: int) -> Built:
        """The module to train and its batches."""

    def save_and_evaluate(self, built: Built, data: Any) -> dict[str, float]:
        """Saves the trained model; returns its measured quality."""


def count_groups(batch_size: int, size: int) -> int:
    """Returns the number of groups of `size` pictures in a batch; PmgError if the batch is no multiple of it."""
    if batch_size % size:
        below = batch_size // size * size
        near = f"{below} or {below + size}" if below else str(size)
        raise PmgError(f"stage.batch_size must be a multiple of {size}, got {batch_size}: set it to {near}")
    return batch_size // size


def group_rows(data: LookData, splits: Sequence[str], artists: int, pictures: int) -> dict[str, list[int]]:
    """Returns the rows of splits by artist; PmgError if a batch of `artists` with `pictures` each has too many."""
    rows = data.rows_by_artist(*splits)
    if artists > len(rows):
        raise PmgError(
            f"stage.batch_size needs {artists} artists with {pictures} pictures each, and the data has {len(rows)} "
            f"artists: set stage.batch_size={len(rows) * pictures} or less"
        )
    return rows


def save_half(model: ModelMixin | PreTrainedModel, folder: str) -> None:
    """Saves a diffusers or transformers model as fp16 safetensors; the model keeps the rounded weights."""
    if isinstance(model, ModelMixin):
        model.register_to_config(_name_or_path="")  # a second cycle would ship the folder that it started from
    model.half().save_pretrained(folder)
    model.float()


def load_weights(model: Model, folder: Path) -> Model:
    """Copies a saved model's weights into one of its class; returns the saved one, PmgError if it doesn't fit."""
    found = load_part(type(model), folder)
    try:
        model.load_state_dict(found.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"{folder} can't be trained further: {reason}. Set stage.start=null, or its sizes.") from error
    return found


class LookTraining(pl.LightningModule):
    """Trains a `model` and its ``style_encoder``; their moving average, of decay `ema_decay`, is the model."""

    loss_name: str

    def __init__(
        self, model: Any, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial, ema_decay: Decay
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.lr_scheduler = model, optimizer, lr_scheduler
        self.average = AveragedWeights(model, ema_decay, power=0.75)

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Returns the loss of each drawing, `(B,)`."""

    def blocks(self, batch: Batch) -> tuple[Block, Block, SoftBlock]:
        """Returns what a batch is conditioned on: target, words, and style tokens of each look's other drawings."""
        latents = batch["latents"]
        features = self.model.style_encoder.encode_pictures(latents)
        tokens = self.model.style_encoder.summarise(features[reference_rows(len(latents))], batch["present"])
        target = Block(batch["target"], batch["target_mask"], batch["target_pooled"])
        words = Block(batch["words"], batch["words_mask"])
        return target, words, SoftBlock(tokens, batch["keep_style"][:, None].expand(tokens.shape[:2]))

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

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.model, self.optimizer, self.lr_scheduler)


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
