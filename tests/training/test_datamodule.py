"""Batches depend on seed and step alone, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from pmg.training.datamodule import RowsDataModule, ShuffledRows


def batches(start=0, seed=0):
    rows = ShuffledRows(torch.arange(10), 4, seed, lambda rows, generator: (rows, torch.rand(1, generator=generator)))
    rows.start_step = start
    return rows


def test_every_pass_shows_every_row_once():
    seen = torch.cat([rows for rows, _ in islice(batches(), 5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:20].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:20].tolist()


def test_going_on_at_a_step_gives_the_same_batches():
    whole = list(islice(batches(), 6))
    rest = list(islice(batches(start=3), 3))
    assert all(torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(whole[3:], rest, strict=True))


def test_seeds_differ():
    assert not torch.equal(batches(seed=0).batch(0)[0], batches(seed=1).batch(0)[0])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_shares_are_the_batch_and_keep_users_with_their_questions(training, ranks):
    _, batches = training()
    whole = batches.train.batch(3)
    batches.train.start_step, batches.train.ranks, parts = 3, ranks, []
    for batches.train.rank in range(ranks):
        parts.append(next(iter(batches.train)))
    for name, values in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), values), name
    draws = len(whole["target"]) // len(whole["users"])
    assert all(len(part["target"]) == draws * len(part["users"]) for part in parts)


def test_validation_drops_nothing_and_has_noise_of_its_own_in_each_batch(training):
    _, batches = training()
    some = batches.train.collate.fixed(batches.train.rows, 4, seed=0)
    assert all(values.all() for batch in some for name, values in batch.items() if name.startswith("keep_"))
    assert not torch.equal(some[0]["noise"], some[1]["noise"])
    again = batches.train.collate.fixed(batches.train.rows, 4, seed=0)
    assert all(torch.equal(a["noise"], b["noise"]) for a, b in zip(some, again, strict=True))


def test_each_process_draws_its_own_share():
    whole = batches()
    whole.collate = lambda rows, generator: {"rows": rows}
    expected = [batch["rows"] for batch in islice(whole, 4)]
    whole.rank, whole.ranks = 1, 2
    assert all(torch.equal(batch["rows"], rows[2:]) for batch, rows in zip(islice(whole, 4), expected, strict=True))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_training_begins_at_the_batch_of_its_step(accumulate):
    data = RowsDataModule(batches(), [])
    data.trainer = SimpleNamespace(global_step=2, accumulate_grad_batches=accumulate, global_rank=0, world_size=1)
    data.train_dataloader()
    assert data.train.start_step == 2 * accumulate
