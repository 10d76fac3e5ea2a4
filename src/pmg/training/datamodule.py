"""Batches for the training stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pmg.seeding import stable_number

Batch = dict[str, Tensor]


def seeded(*parts: str | int) -> torch.Generator:
    """A generator that depends on `parts` alone."""
    return torch.Generator().manual_seed(stable_number(*parts) % 2**63)


def share(batch: Batch, rank: int, ranks: int) -> Batch:
    """One process's part of a batch: its own run of rows of each tensor, in the order of the whole.

    Args:
        batch: tensors whose numbers of rows `ranks` divides.
        rank: of the process, from 0.
        ranks: how many processes train together.
    """
    return {name: values.chunk(ranks)[rank] for name, values in batch.items()} if ranks > 1 else batch


class ShuffledRows(IterableDataset):
    """Endless batches of row numbers, shuffled pass by pass; a step's batch depends on seed and step alone.

    That is what makes a resumed run equal an uninterrupted one: it starts at the step it had reached.

    Args:
        rows: row numbers to draw from, int64 `(N,)`.
        batch_size: rows a batch; a batch may span two passes.
        seed: seed of the shuffles.
        collate: turns rows `(B,)` and a generator into a batch.
        read: adds to a process's share of a batch what is only read for that share; None: nothing.
        expect: told of a training's next batch one step ahead; None: nobody.
    """

    def __init__(
        self, rows: Tensor, batch_size: int, seed: int, collate: Callable[[Tensor, torch.Generator], Batch],
        read: Callable[[Batch], Batch] | None = None, expect: Callable[[Batch], None] | None = None,
    ) -> None:  # fmt: skip
        self.rows, self.batch_size, self.seed, self.collate = rows, batch_size, seed, collate
        self.read, self.expect = read or (lambda batch: batch), expect or (lambda batch: None)
        self.start_step = 0
        self.rank, self.ranks = 0, 1

    def _pass(self, number: int) -> Tensor:
        order = torch.randperm(len(self.rows), generator=seeded(self.seed, "pass", number))
        return self.rows[order]

    def batch(self, step: int) -> Batch:
        """The batch of one step, of all processes."""
        return self.read(self._draw(step))

    def _draw(self, step: int) -> Batch:
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
            own = share(self._draw(step), self.rank, self.ranks)
            self.expect(own)  # Lightning asks for a batch before the step of the one before it
            yield self.read(own)
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

    Of a training batch each process takes its share; each validates on all batches, so that the result is that of a
    single process.

    Args:
        train: training batches; told where to start when a run is resumed, and for which process.
        validation: validation batches.
    """

    def __init__(self, train: ShuffledRows, validation: list[Batch]) -> None:
        super().__init__()
        self.train, self.validation = train, validation

    def train_dataloader(self) -> DataLoader:
        """Batches from the step that the trainer has reached."""
        self.train.start_step = self.trainer.global_step
        self.train.rank, self.train.ranks = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """The validation batches."""
        return DataLoader(Batches(self.validation), batch_size=None)
