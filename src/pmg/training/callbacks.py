"""Lightning callbacks."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, RichProgressBar
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from pmg.configuration.ranges import Seed
from pmg.domain import PmgError
from pmg.runs.process_state import file_only

log = logging.getLogger(__name__)

BAR_WIDTH = 10  # characters: with one metric the line of a training fits 80 columns


class StopBetweenSteps(Callback):
    """Interrupts a training between two steps, at the same step in all processes, whichever of them got the signal.

    In the middle of a step a batch norm may have counted a batch that is computed again after a resume, and
    a process that stopped alone would leave the others waiting for its gradients. A second signal ends it at once.
    """

    def __init__(self) -> None:
        self.signalled = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Installs the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, *_: object) -> None:
        if self.signalled:
            raise KeyboardInterrupt
        self.signalled = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Raises KeyboardInterrupt, before the first batch of a step, if one of the processes got a signal."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        stop = self.signalled
        if trainer.world_size > 1:
            own = torch.tensor(float(stop), device=pl_module.device)
            stop = bool(trainer.strategy.reduce(own, reduce_op="sum") > 0)
        if stop:
            raise KeyboardInterrupt

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restores the earlier signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class StepBar(RichProgressBar):
    """A progress bar over the steps of the whole training: it has no epochs, and a resume begins where it ended."""

    @property
    def total_train_batches(self) -> int | float:
        """The steps of the training, those before a resume included."""
        return self.trainer.max_steps if self.trainer.max_steps > 0 else super().total_train_batches

    def configure_columns(self, trainer: Trainer) -> list:
        """Returns Lightning's columns with a bar of `BAR_WIDTH`."""
        columns = super().configure_columns(trainer)
        for bar in (column for column in columns if hasattr(column, "bar_width")):
            bar.bar_width = BAR_WIDTH
        return columns

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict]:
        """Returns the metrics that the bar shows, without the version number of a logger."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"

    def _update(self, progress_bar_id: int | None, current: int, visible: bool = True, hard: bool = False) -> None:
        if progress_bar_id == self.train_progress_bar_id:
            current = self.trainer.global_step  # not the batch: several batches may be one step
        super()._update(progress_bar_id, current, visible, hard)


class ValidationLog(Callback):
    """Writes the metrics of every validation into the log file, with the step."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes one line; the console has the progress bar."""
        values = (f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items()))
        if trainer.is_global_zero:
            with file_only():
                log.info("step %d of %d: %s", trainer.global_step, trainer.max_steps, ", ".join(values))


class StepSeed(Callback):
    """Seeds torch before every training batch from the batch's number, so that dropout is the same after a resume.

    Each of several processes has its own seeds: dropout differs between their users. Without a `seed` torch's random
    numbers are left alone.
    """

    def __init__(self, seed: Seed | None) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: object, batch_idx: int) -> None:
        """Seeds the batch, one of several where gradients are accumulated."""
        if self.seed is not None:
            batches = trainer.accumulate_grad_batches
            number = trainer.global_step * batches + batch_idx % batches
            torch.manual_seed(self.seed * 1_000_003 + number + trainer.global_rank * 1_000_000_007)


class FiniteGradients(Callback):
    """Logs the norm of all gradients, and ends a training before an optimizer step where it isn't finite.

    The last checkpoint stays valid. With ``trainer.precision=16-mixed`` nothing is logged, and torch's `GradScaler`
    leaves such steps out: the first ones find its scale.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Logs the norm as ``train/gradient_norm``; PmgError if it is no finite number."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not norm.isfinite():
            raise PmgError(
                f"the loss or its gradient is not finite at step {trainer.global_step}: lower the learning rate, "
                "or try trainer.precision=32-true; debug=detect_anomaly names the operation"
            )
        pl_module.log("train/gradient_norm", norm)


class StepOperations(Callback):
    """Counts the forward and backward passes of a run's first step, without the optimizer's own operations.

    A resumed run has the count from its checkpoint: the last bits of a step differ while it is counted. `counted`
    operations are those of a step, a multiplication and an addition being two; 0 before the first one.
    """

    def __init__(self) -> None:
        self.counted = 0
        self._open = ExitStack()
        self._counter: FlopCounterMode | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, _: int) -> None:
        """Begins to count; attention is taken apart, since the fused kernel of processors isn't counted."""
        if not (self.counted or self._counter or trainer.global_step):  # batches of one step are counted together
            self._open.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._counter = self._open.enter_context(FlopCounterMode(display=False))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Ends the count."""
        if self._counter is not None:
            self._open.close()
            self.counted, self._counter = int(self._counter.get_total_flops()), None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends a count that an error interrupted."""
        self._open.close()

    def state_dict(self) -> dict[str, int]:
        """Returns the count, for checkpoints."""
        return {"counted": self.counted}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restores the count of a checkpoint."""
        self.counted = state_dict["counted"]
