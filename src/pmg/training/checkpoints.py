"""Checkpoints of a training: saved whole, signed, and resumed from where they are intact."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from pmg.cache import hash_tensor
from pmg.configuration.identity import find_differences, format_differences
from pmg.configuration.ranges import NotNegative
from pmg.configuration.trees import nodes
from pmg.domain import PmgError
from pmg.runs.exit_codes import is_interrupt
from pmg.training.ema import AveragedWeights


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

    Saved every `every_s` seconds between two steps, after every validation, at the end of the training, and when an
    exception or Ctrl-C stops it. With several processes an exception saves nothing: the other processes may be
    anywhere, and saving waits for them.
    """

    def __init__(self, dirpath: str, every_s: NotNegative = 60.0) -> None:
        super().__init__(  # without a version: overwritten, never last-v1.ckpt
            dirpath=dirpath, filename="last", train_time_interval=timedelta(seconds=every_s), save_on_exception=True,
            auto_insert_metric_name=False, enable_version_counter=False,
        )  # fmt: skip

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if the interval is over, at the end of a step behind which there is no validation."""
        done = batch_idx + 1
        validated = trainer.enable_validation and done % (trainer.val_check_batch or done + 1) == 0  # None: by time
        if done % trainer.accumulate_grad_batches == 0 and not validated:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what came of the validation: a resumed training doesn't repeat it."""
        if trainer.state.fn == "fit" and not (trainer.fast_dev_run or trainer.sanity_checking):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
            self._last_time_checked = time.monotonic()

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
            dirpath=dirpath, filename="best", monitor=monitor, mode=mode, auto_insert_metric_name=False,
            enable_version_counter=False, save_on_train_epoch_end=False,
        )  # fmt: skip
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


class Signature(Callback):
    """Writes the run's identity into every checkpoint, and a list of the tensors that a resumed training needs.

    `metrics` are the latest of the training, those before a resume included, which Lightning forgets.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self.identity, self.metrics = dict(identity), dict[str, float]()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Adds the identity and the list; a step that has begun is begun again."""
        self.metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint |= {"identity": self.identity, "tensors": _list_tensors(checkpoint), "metrics": self.metrics}
        done = trainer.global_step * trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            counts |= {name: min(count, done) for name, count in counts.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Restores the metrics; a limit of time (``trainer.max_time``) is one of each session."""
        self.metrics = checkpoint["metrics"]
        checkpoint["callbacks"].pop("Timer", None)


def _list_tensors(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Returns type, shape and a hash of each tensor of a checkpoint, by dotted key."""
    parts = {name: checkpoint[name] for name in checkpoint if name in ("state_dict", "optimizer_states", "callbacks")}
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
