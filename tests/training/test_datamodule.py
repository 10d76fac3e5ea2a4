"""Batches depend on seed and step alone, so that a resumed run goes on as if nothing had happened."""

from __future__ import annotations

from itertools import islice

import torch

from pmg.training.datamodule import ShuffledRows


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
