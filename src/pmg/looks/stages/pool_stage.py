"""What the stages on pools of looks share: reading pools, validation on held-out cells, saving."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import torch
from diffusers import ModelMixin
from torch import Tensor
from transformers import PreTrainedModel

from pmg.configuration.ranges import Count
from pmg.data.picture_groups import PictureGroups
from pmg.looks.stages.denoiser import Drop, LookBatches
from pmg.looks.stages.pool import ITEMS, LookPool, Pool
from pmg.looks.stages.training import LookTraining
from pmg.models.diffusion.noise_processes import NoiseProcess
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.preferences.captioning import PictureDescriber
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.pretraining import VALIDATION_BATCH, Built, count_groups, load_weights, save_half

KEEP_ALL = Drop(0.0, 0.0, 0.0, 0.0)


class Collate(Protocol):
    """Makes batches of the looks of a pool."""

    def __len__(self) -> int:
        """Returns the number of looks."""
        ...

    def __call__(self, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of `looks` `(N,)`."""
        ...


class LookPoolStage(ABC):
    """A generator and its style encoder, on a pool of looks.

    Args:
        folder: gets the generator, ``style_encoder`` and a copy of ``vae``.
        generator_folder: holds ``vae``, whose latents the pool holds and the style encoder reads.
        training: of the untrained model, with its optimizer, schedule and moving average.
        text_encoder: frozen.
        captioner: describes pictures in words.
        scene: words that target captions may end with.
        drop: chances to drop each block.
        pool: ``folder``, and the number of ``looks``.
        batch_size: drawings a step, a multiple of four.
        start: folder of an earlier training, whose weights are trained further; None: from scratch.

    Attributes:
        quality: name of the loss on held-out drawings in the model's card.

    Raises:
        PmgError: `start` is missing, or holds models of other sizes; or `batch_size` is no multiple of four.
    """

    quality: str

    def __init__(
        self, folder: str, generator_folder: str, training: LookTraining, text_encoder: TextEncoder,
        captioner: PictureDescriber, *, scene: str, drop: Drop, pool: Pool, batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder = Path(folder), Path(generator_folder)
        self.module, self.model = training, training.model
        self.text_encoder, self.captioner, self.scene, self.drop = text_encoder, captioner, scene, drop
        self.pool, self.looks_a_step = pool, count_groups(batch_size, ITEMS)
        if start is not None:
            for model, name in self._parts():
                load_weights(model, Path(start, name))

    @abstractmethod
    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        """Returns the trained models and the names of their folders."""

    @abstractmethod
    def _collate(self, pool: LookPool, data: PictureGroups, split: str) -> Collate:
        """Returns what makes batches of the pool of a split."""

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Returns the training and its batches from the pool; validation is on held-out cells."""
        held_out = self._read(data, "validation", seed)
        train = self._read(data, "train", seed)
        parts = torch.arange(len(held_out)).split(VALIDATION_BATCH // ITEMS)
        self.fixed = [held_out(looks, seeded(seed, "validation", number)) for number, looks in enumerate(parts)]
        rows = ShuffledRows(torch.arange(len(train)), self.looks_a_step, seed, train)
        return self.module, RowsDataModule(rows, self.fixed)

    def _read(self, data: PictureGroups, split: str, seed: int) -> Collate:
        pool = self.pool.get(data, split, seed, self.captioner, self.generator_folder)
        return self._collate(pool, data, split)

    def _look_batches(
        self, pool: LookPool, data: PictureGroups, split: str, process: NoiseProcess | None
    ) -> LookBatches:
        """Returns batches of a pool; nothing is dropped from held-out ones."""
        drop = self.drop if split == "train" else KEEP_ALL
        return LookBatches(pool, data, self.text_encoder, process, drop, self.scene)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Saves generator and style encoder; returns the loss on held-out drawings."""
        self.model.eval()
        with quiet_libraries():
            for model, name in self._parts():
                save_half(model, str(self.folder / name))
        shutil.copytree(self.generator_folder / "vae", self.folder / "vae", dirs_exist_ok=True)
        with torch.no_grad():
            losses = [self.module.held_out_losses(batch) for batch in self.fixed]
        return {self.quality: float(torch.cat(losses).mean())}
