"""What the stages of `pmg-pretrain` share: their interface, and saving and loading of weights.

A stage's `build` returns a LightningModule and its batches; `save_and_evaluate` takes both after the training, saves
the model as fp16 safetensors in the library's own folder layout and measures it on the batches of validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytorch_lightning as pl
from diffusers import ModelMixin
from torch import nn
from transformers import PreTrainedModel

from pmg.domain import PmgError
from pmg.looks.drawings import LookData
from pmg.models.loading.weight_sources import load_part
from pmg.training.datamodule import RowsDataModule

Built = tuple[pl.LightningModule, RowsDataModule]
VALIDATION_BATCH = 128  # drawings
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
