"""Lightning callbacks."""

from __future__ import annotations

import logging
import os
import signal
import threading
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from pmg.cache import hash_tensor
from pmg.configuration.identity import find_differences, format_differences
from pmg.configuration.ranges import NotNegative, Seed
from pmg.configuration.trees import nodes
from pmg.domain import PmgError
from pmg.runs.exit_codes import is_interrupt
from pmg.runs.process_state import file_only
from pmg.training.ema import AveragedWeights

log = logging.getLogger(__name__)

BAR_WIDTH = 10  # characters: with one metric the line of a training fits 80 columns


class AtomicCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that replaces its file as a whole, where Lightning copies from a temporary folder."""

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        part = f"{filepath}.part"
        super()._save_checkpoint(trainer, part)
        if trainer.is_global_zero:
            os.replace(part, filepath)
        self._last_checkpoint_saved = filepath

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of a checkpoint, with the paths of today's folder where the run was moved."""
        state = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = self._here(state[name])
        state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath, Path(path).name)) if path else ""


class LastCheckpoint(AtomicCheckpoint):
    """Saves ``last.ckpt``, the state from which an interrupted training is resumed.

    Saved every `every_s` seconds, at the end of the training, and when an exception or Ctrl-C stops it. With several
    processes an exception saves nothing: the other processes may be anywhere, and saving waits for them.
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

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the final state, unless an interval ended there."""
        if not trainer.fast_dev_run and self._last_global_step_saved != trainer.global_step:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves the state at an exception."""
        if trainer.world_size == 1 or is_interrupt(exception):
            super().on_exception(trainer, pl_module, exception)


class BestCheckpoint(AtomicCheckpoint):
    """Saves ``best.ckpt`` at the best validation, and makes its weights the trained ones once the training has ended.

    With a moving average of the weights, the average of that step is taken, too; the metrics of its validation replace
    those of the last one.
    """

    def __init__(self, dirpath: str, monitor: str = "val/total", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self.metrics: dict[str, float] = {}

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        logged = trainer.callback_metrics.items()
        self.metrics = {name: float(value) for name, value in logged if name.startswith("val/")}
        super()._save_checkpoint(trainer, filepath)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Loads the best weights, after the last state was saved."""
        if not self.best_model_path:
            return
        best = torch.load(self.best_model_path, map_location="cpu", weights_only=True)
        pl_module.load_state_dict(best["state_dict"])
        for callback in trainer.callbacks:
            if isinstance(callback, AveragedWeights):
                callback.load_state_dict(best["callbacks"][callback.state_key])
                callback.copy()
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.metrics.items()})

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for checkpoints."""
        return {**super().state_dict(), "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        self.metrics = state_dict["metrics"]
        super().load_state_dict(state_dict)


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

    Each of several processes has its own seeds: dropout differs between their users.

    Args:
        seed: of the run; null leaves torch's random numbers alone.
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
    """Ends a training before an optimizer step with gradients that are not finite: the last checkpoint stays valid."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Checks that the norm of all gradients is a finite number, else raises PmgError."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise PmgError(
                f"the loss or its gradient is not finite at step {trainer.global_step}: lower the learning rate, "
                "or try trainer.precision=32-true; debug=detect_anomaly names the operation"
            )


class Signature(Callback):
    """Writes the run's identity into every checkpoint, and a list of the tensors that a resumed training needs."""

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self.identity = dict(identity)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Adds the identity and the list."""
        checkpoint |= {"identity": self.identity, "tensors": _list_tensors(checkpoint)}


def _list_tensors(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Returns type, shape and a hash of each tensor of a checkpoint, by dotted key."""
    parts = {
        name: part for name, part in checkpoint.items() if name in ("state_dict", "optimizer_states", "callbacks")
    }
    return {
        key: f"{value.dtype} {tuple(value.shape)} sha256 {hash_tensor(value)[:8]}"
        for key, value in nodes(parts)
        if isinstance(value, Tensor)
    }


def resume_point(path: Path, command: str, identity: Mapping[str, Any]) -> Path | None:
    """Returns the checkpoint to resume from, None if none was saved; PmgError if it is damaged or of other values."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch doesn't compare the checksums that it writes
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        saved = torch.load(path, map_location="cpu", weights_only=True)
        signature, wanted, found = saved.get("identity"), saved["tensors"], _list_tensors(saved)
    except Exception as error:  # a truncated file raises whatever its damage leads to
        raise PmgError(f"{path} is damaged ({type(error).__name__}); delete it to start this stage again") from error
    if differ := find_differences(command, signature or {}, identity):
        raise PmgError(
            f"{path} belongs to a training of other values: {format_differences(differ)}. Name a new run_dir, or "
            "delete the folder to start again"
        )
    if wrong := [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]:
        pair = f"{found.get(wrong[0], 'missing')}, not {wanted.get(wrong[0], 'there')}"
        raise PmgError(f"{path} was changed: {wrong[0]} is {pair}; delete it to start this stage again")
    return path


class StepOperations(Callback):
    """Counts the forward and backward passes of a run's first step, without the optimizer's own operations.

    A resumed run has the count from its checkpoint: the last bits of a step differ while it is counted.

    Attributes:
        counted: operations of a step, a multiplication and an addition being two; 0 before the first one.
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
