"""Pretraining of the judge: style and concept of real drawings."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.functional import cross_entropy

from pmg.configuration.ranges import Fraction
from pmg.models.vision.judge import Judge
from pmg.training.datamodule import Batch
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers


class JudgeTraining(pl.LightningModule):
    """Cross-entropy of both heads.

    Args:
        judge: the model to train.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
        label_smoothing: share of a target's probability spread over all classes.
    """

    def __init__(
        self,
        judge: Judge,
        optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial,
        label_smoothing: Fraction = 0.1,
    ) -> None:
        super().__init__()
        self.judge = judge
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.label_smoothing = label_smoothing

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on ``images``, ``style`` and ``concept``."""
        style, concept = self.judge(batch["images"])
        losses = {
            "train/style": cross_entropy(style, batch["style"], label_smoothing=self.label_smoothing),
            "train/concept": cross_entropy(concept, batch["concept"], label_smoothing=self.label_smoothing),
        }
        self.log_dict(losses, prog_bar=True)
        return losses["train/style"] + losses["train/concept"]

    def validation_step(self, batch: Batch, _: int) -> None:
        """Accuracy on held-out drawings."""
        style, concept = self.judge(batch["images"])
        hits = {"style": style.argmax(1) == batch["style"], "concept": concept.argmax(1) == batch["concept"]}
        accuracy = {f"val/{name}_accuracy": hit.float().mean() for name, hit in hits.items()}
        self.log_dict(accuracy, prog_bar=True, batch_size=len(style))

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.judge, self.optimizer, self.lr_scheduler)
