"""A moving average of the weights in training, which is what gets validated and kept."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class AveragedWeights(pl.Callback):
    """Follows a model's parameters with an exponential moving average and lends it to every validation.

    The average starts at the weights of the first step, with a decay that rises from 0 as ``(1 + s) / (10 + s)``,
    so that a short training isn't held back by its start. It lies in checkpoints, beside the weights in training.

    Args:
        model: the trained part alone; nothing frozen is copied.
        decay: 0 to 1, the share of the old average that a step keeps in the end.
        refit: called after the average has been lent: sets what depends on the weights (running statistics).
    """

    def __init__(self, model: nn.Module, decay: float, refit: Callable[[], None]) -> None:
        self.model, self.refit = model, refit
        self.ema = EMAModel(model.parameters(), decay=decay)
        self._kept: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Goes where the model went."""
        self.ema.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Follows the optimiser's step; batches that only add to a gradient change nothing."""
        if trainer.global_step > self.ema.optimization_step:
            self.ema.step(self.model.parameters())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lends the average."""
        self._kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.copy()
        self.refit()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the weights in training back."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Puts them back too where a validation was broken off, before a checkpoint is saved."""
        self._restore()

    def _restore(self) -> None:
        if self._kept:
            self.model.load_state_dict(self._kept)
        self._kept = {}

    def copy(self) -> None:
        """Makes the average the model's weights."""
        self.ema.copy_to(self.model.parameters())

    def state_dict(self) -> dict:
        """The average, for checkpoints."""
        return self.ema.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Goes on from a checkpoint's average."""
        self.ema.load_state_dict(state_dict)
