"""Pretraining of the scorer: images against target texts and against style texts."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from pmg.losses import contrastive_loss
from pmg.models.vision.scorer import Scorer
from pmg.training.datamodule import Batch
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers
from pmg.training.pretraining.encoded_captions import CaptionBank


class ScorerTraining(pl.LightningModule):
    """Contrast of each image with every target text and every style text of the bank.

    The bank is small enough to be the whole set of negatives. A text that fits several classes (``"flat"``)
    is right for all their images.

    Args:
        scorer: the model to train.
        bank: encoded captions.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
    """

    def __init__(
        self, scorer: Scorer, bank: CaptionBank, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.bank = bank
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        content, style = self.scorer(images)
        scale = self.scorer.temperature.exp()
        blocks = self.bank.blocks
        texts = {
            "target": self.scorer.encode_target(blocks["target"].pooled),
            "attributes": self.scorer.encode_preference(blocks["attributes"].pooled),
            "artist_style": self.scorer.encode_preference(blocks["artist_style"].pooled),
        }
        return {part: scale * (content if part == "target" else style) @ text.T for part, text in texts.items()}

    def _positive(self, part: str, rows: Tensor) -> Tensor:
        positions = self.bank.positions[part][rows]
        positive = torch.zeros(len(rows), len(self.bank.blocks[part]), dtype=torch.bool)
        return positive.scatter(1, positions, True)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on ``images`` and their catalogue ``rows``."""
        losses = {
            f"train/{part}": contrastive_loss(logits, self._positive(part, batch["rows"])).mean()
            for part, logits in self._logits(batch["images"]).items()
        }
        self.log_dict(losses, prog_bar=True)
        return torch.stack(list(losses.values())).sum()

    def accuracy(self, images: Tensor, rows: Tensor) -> dict[str, float]:
        """Share of images `(B, 3, H, W)` whose best text is one of their own, by part of the caption."""
        return {
            f"{part}_accuracy": float(
                self._positive(part, rows).gather(1, logits.argmax(1, keepdim=True)).float().mean()
            )
            for part, logits in self._logits(images).items()
        }

    def validation_step(self, batch: Batch, _: int) -> None:
        """Accuracy on held-out drawings."""
        values = {f"val/{name}": value for name, value in self.accuracy(batch["images"], batch["rows"]).items()}
        self.log_dict(values, prog_bar=True, batch_size=len(batch["rows"]))

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.scorer, self.optimizer, self.lr_scheduler)
