"""Data modules: endless training batches that depend on seed and step alone, and fixed validation batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pmg.seeding import stable_number

Batch = dict[str, Tensor]


def seeded(*parts: str | int) -> torch.Generator:
    """Returns a random number generator that depends on `parts` alone."""
    return torch.Generator().manual_seed(stable_number(*parts) % 2**63)


class ShuffledRows(IterableDataset):
    """Endless batches of row numbers, shuffled pass by pass; a step's batch depends on seed and step alone.

    So a resumed run, which starts at the step of its checkpoint, equals an uninterrupted one.

    Args:
        rows: row numbers to draw from, int64 `(N,)`.
        batch_size: rows a batch; a batch may span two passes.
        seed: of the shuffles.
        collate: makes a batch of rows `(B,)` and a random number generator.
        read: adds to a process's rows of a batch what is loaded for these rows alone; None: nothing.
        expect: called with the next batch one step ahead, to prepare it; None: nothing is prepared.
    """

    def __init__(
        self, rows: Tensor, batch_size: int, seed: int, collate: Callable[[Tensor, torch.Generator], Batch],
        read: Callable[[Batch], Batch] | None = None, expect: Callable[[Batch], None] | None = None,
    ) -> None:  # fmt: skip
        self.rows, self.batch_size, self.seed, self.collate = rows, batch_size, seed, collate
        self.read, self.expect = read or (lambda batch: batch), expect or (lambda batch: None)
        self.start_step, self.rank, self.ranks = 0, 0, 1

    def _pass(self, number: int) -> Tensor:
        return self.rows[torch.randperm(len(self.rows), generator=seeded(self.seed, "pass", number))]

    def batch(self, step: int) -> Batch:
        """Returns the batch of one step, of all processes."""
        return self.read(self._draw(step))

    def _draw(self, step: int) -> Batch:
        number, offset = divmod(step * self.batch_size, len(self.rows))
        pool = self._pass(number)[offset:]
        while len(pool) < self.batch_size:
            number += 1
            pool = torch.cat([pool, self._pass(number)])
        return self.collate(pool[: self.batch_size], seeded(self.seed, "batch", step))

    def __iter__(self) -> Iterator[Batch]:
        for step in count(self.start_step):
            own = self._draw(step)
            if self.ranks > 1:  # processes, which divide the rows of the batch, in their order
                own = {name: values.chunk(self.ranks)[self.rank] for name, values in own.items()}
            self.expect(own)  # Lightning fetches a batch before the step of the batch before it
            yield self.read(own)


class RowsDataModule(pl.LightningDataModule):
    """Endless training batches and fixed validation batches over rows held in memory.

    Each process takes its rows of a training batch; each validates on all batches, so that the result is that of one
    process. The trainer's step and rank are set in the training batches when an epoch starts.
    """

    def __init__(self, train: ShuffledRows, validation: list[Batch]) -> None:
        super().__init__()
        self.train, self.validation = train, validation

    def train_dataloader(self) -> DataLoader:
        """Returns batches from the trainer's current step on."""
        self.train.start_step = self.trainer.global_step * self.trainer.accumulate_grad_batches
        self.train.rank, self.train.ranks = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Returns the validation batches."""
        return DataLoader(self.validation, batch_size=None)  # type: ignore[arg-type] # a list will do
