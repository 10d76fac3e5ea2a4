"""An exponential moving average of the trained weights, which is validated and kept."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class AveragedWeights(pl.Callback):
    """Updates an exponential moving average of a model's parameters, validates it, and keeps it at the end.

    The average starts at the weights of the first step, with a decay that rises from 0, so that the first weights have
    no share in the average of a short training. Checkpoints hold both, average and trained weights.

    Args:
        model: the trained part alone; nothing frozen is copied.
        decay: 0 to 1, its final value.
        power: of the warm-up: at step s the decay is at most ``1 - (1 + s) ** -power``; None: ``(1 + s) / (10 + s)``.
        refit: called after the average was swapped in: fits what depends on the weights (running statistics).
    """

    def __init__(
        self, model: nn.Module, decay: float, power: float | None = None, refit: Callable[[], None] | None = None
    ) -> None:
        self.model, self.refit = model, refit or (lambda: None)
        self.ema = EMAModel(model.parameters(), decay=decay, use_ema_warmup=power is not None, power=power or 1.0)
        self._trained: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Moves the average to the device of the model."""
        self.ema.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Updates the average after an optimizer step; batches that only accumulate gradients change nothing."""
        if trainer.global_step > self.ema.optimization_step:
            self.ema.step(self.model.parameters())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swaps the average in."""
        self._trained = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.copy()
        self.refit()

    def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Swaps the trained weights back in."""
        if self._trained:
            self.model.load_state_dict(self._trained)
        self._trained = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Swaps them back where a validation failed, before a checkpoint is saved."""
        self.on_validation_end(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes the average the model's weights, also where a resumed training had no steps left."""
        self.copy()

    def copy(self) -> None:
        """Makes the average the model's weights."""
        self.ema.copy_to(self.model.parameters())

    def state_dict(self) -> dict:
        """Returns the average, for checkpoints."""
        return self.ema.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores the average of a checkpoint."""
        self.ema.load_state_dict(state_dict)
