"""Batches for the training stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pmg.data.splits import stable_number

Batch = dict[str, Tensor]


def seeded(*parts: str | int) -> torch.Generator:
    """A generator that depends on `parts` alone."""
    return torch.Generator().manual_seed(stable_number(*parts) % 2**63)


class ShuffledRows(IterableDataset):
    """Endless batches of row numbers, shuffled pass by pass; a step's batch depends on seed and step alone.

    That is what makes a resumed run equal an uninterrupted one: it starts at the step it had reached.

    Args:
        rows: row numbers to draw from, int64 `(N,)`.
        batch_size: rows a batch; a batch may span two passes.
        seed: seed of the shuffles.
        collate: turns rows `(B,)` and a generator into a batch.
    """

    def __init__(
        self, rows: Tensor, batch_size: int, seed: int, collate: Callable[[Tensor, torch.Generator], Batch]
    ) -> None:
        self.rows, self.batch_size, self.seed, self.collate = rows, batch_size, seed, collate
        self.start_step = 0

    def _pass(self, number: int) -> Tensor:
        order = torch.randperm(len(self.rows), generator=seeded(self.seed, "pass", number))
        return self.rows[order]

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        first = step * self.batch_size
        number, offset = divmod(first, len(self.rows))
        pool = self._pass(number)[offset:]
        while len(pool) < self.batch_size:
            number += 1
            pool = torch.cat([pool, self._pass(number)])
        generator = seeded(self.seed, "batch", step)
        return self.collate(pool[: self.batch_size], generator)

    def __iter__(self) -> Iterator[Batch]:
        step = self.start_step
        while True:
            yield self.batch(step)
            step += 1


class Batches(Dataset):
    """Fixed validation batches.

    Args:
        batches: the batches, in order.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


class RowsDataModule(pl.LightningDataModule):
    """Endless training batches and fixed validation batches over rows held in memory.

    Args:
        train: training batches; told where to start when a run is resumed.
        validation: validation batches.
    """

    def __init__(self, train: ShuffledRows, validation: list[Batch]) -> None:
        super().__init__()
        self.train, self.validation = train, validation

    def train_dataloader(self) -> DataLoader:
        """Batches from the step that the trainer has reached."""
        self.train.start_step = self.trainer.global_step
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """The validation batches."""
        return DataLoader(Batches(self.validation), batch_size=None)
