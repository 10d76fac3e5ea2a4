"""Lightning callbacks."""

from __future__ import annotations

import os
import signal
import threading
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch.optim import Optimizer

from pmg.configuration.identity import find_differences, tell_differences
from pmg.configuration.ranges import NotNegative, Seed
from pmg.domain import PmgError


class LastCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``, the state that an interrupted training goes on from.

    Saved every `every_s` seconds, at the end of the training, and when an exception or Ctrl-C stops it. Where several
    processes train together, an exception saves nothing: the others may be anywhere, and saving waits for them.

    Args:
        dirpath: folder of ``last.ckpt``.
        every_s: seconds between saves, above 0.
    """

    def __init__(self, dirpath: str, every_s: NotNegative = 60.0) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            train_time_interval=timedelta(seconds=every_s),
            auto_insert_metric_name=False,
            enable_version_counter=False,  # overwritten, never last-v1.ckpt
            save_on_exception=True,
        )

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Replaces the old state by a whole new one: Lightning moves a file from /tmp, which may be another disk."""
        part = f"{filepath}.part"
        super()._save_checkpoint(trainer, part)
        if trainer.is_global_zero:
            os.replace(part, filepath)
        self._last_checkpoint_saved = filepath

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the final state, which no interval may have met."""
        if not trainer.fast_dev_run and self._last_global_step_saved != trainer.global_step:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves what an exception stops."""
        if trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt):
            super().on_exception(trainer, pl_module, exception)


class StopBetweenSteps(Callback):
    """Interrupts a training between two steps, the same ones in all of its processes, whichever got the signal.

    In the middle of a step a batch norm may have counted a batch that is computed again when the training goes on, and
    a process that stopped alone would leave the others waiting for its gradients. A second signal ends it at once.
    """

    def __init__(self) -> None:
        self.told = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes signals from here on."""
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, *_: object) -> None:
        if self.told:
            raise KeyboardInterrupt
        self.told = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Asks all processes whether one was told, before the first batch of a step.

        Raises:
            KeyboardInterrupt: one was.
        """
        if batch_idx % trainer.accumulate_grad_batches:
            return
        told = self.told
        if trainer.world_size > 1:
            mine = torch.tensor(float(told), device=pl_module.device)
            told = bool(trainer.strategy.reduce(mine, reduce_op="sum") > 0)
        if told:
            raise KeyboardInterrupt

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves signals to those who had them."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class StepBar(RichProgressBar):
    """Counts steps: these trainings have no epochs to count."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"


class StepSeed(Callback):
    """Seeds torch before every training step from the step's number, so that dropout goes on where it stopped.

    Each of several processes has its own seeds: dropout differs between their users.

    Args:
        seed: of the run; null leaves torch's random numbers alone.
    """

    def __init__(self, seed: Seed | None) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        """Seeds the step."""
        if self.seed is not None:
            torch.manual_seed(self.seed * 1_000_003 + trainer.global_step + trainer.global_rank * 1_000_000_007)


class FiniteGradients(Callback):
    """Ends a training before a step that would spoil the weights: the last checkpoint stays good."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks at every gradient.

        Raises:
            PmgError: one is infinite or not a number.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise PmgError(
                f"the loss or its gradient is not finite at step {trainer.global_step}: lower the learning rate, "
                "or try trainer.precision=32-true; debug=detect_anomaly names the operation"
            )


class Signature(Callback):
    """Writes what decides the training's result into every checkpoint, so that no other training goes on from it.

    Args:
        identity: values of the config by dotted key.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self.identity = dict(identity)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Signs the checkpoint."""
        checkpoint["identity"] = self.identity


def resume_point(path: Path, command: str, identity: Mapping[str, Any]) -> Path | None:
    """Finds the checkpoint to go on from.

    Args:
        path: where ``last.ckpt`` would lie.
        command: the verb of the training.
        identity: what decides its result, values of the config by dotted key.

    Returns:
        `path`, or None where nothing was saved yet.

    Raises:
        PmgError: the checkpoint is damaged, or was made by a training of other values.
    """
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch doesn't compare the checksums that it writes
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        signature = torch.load(path, map_location="cpu", weights_only=True).get("identity")
    except Exception as error:  # a truncated file raises whatever its damage leads to
        raise PmgError(f"{path} is damaged ({type(error).__name__}); delete it to start this stage again") from error
    if differ := find_differences(command, signature or {}, identity):
        raise PmgError(
            f"{path} belongs to a training of other values: {tell_differences(differ)}. Name a new run_dir, or delete "
            "the folder to start again"
        )
    return path
