"""Targets that generators of looks are judged on: held-out concepts in looks, with their true pictures."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from pmg.looks.drawings import REFERENCES, LookData, LookTarget
from pmg.seeding import stable_number


def draw_targets(data: LookData, split: str, group: str, count: int, seed: int = 0) -> list[LookTarget]:
    """Returns targets of a group; the same ones for the same seed, the first ones of any larger number.

    The split, ``validation`` or ``test``, is that of the held-out cells; groups are ``met`` (seen artists under a
    seen finish), ``unseen_region`` (the same under an unseen finish) and ``unseen_artist``.
    """
    if group == "unseen_artist":
        cells = [row for row in data.rows("unseen_artists").tolist() if data.cells.split(_concept(data, row)) == split]
    else:
        cells = data.rows(split).tolist()
    shown = data.rows_by_artist("train", "unseen_artists")
    return [_target(data, cells, shown, group, stable_number(seed, split, group, number)) for number in range(count)]


def _target(data: LookData, cells: list[int], shown: dict[str, list[int]], group: str, seed: int) -> LookTarget:
    rng = random.Random(seed)
    row = rng.choice(cells)
    finish = data.space.sample(rng, seen=group != "unseen_region")
    others = [other for other in shown[data.drawings.artists[row]] if _concept(data, other) != _concept(data, row)]
    return LookTarget(row, finish, tuple(rng.sample(others, REFERENCES)), seed % 2**31)


def _concept(data: LookData, row: int) -> str:
    return data.drawings.items[row].concept


def true_pictures(data: LookData, targets: list[LookTarget]) -> Tensor:
    """Returns the true pictures of targets, `(B, 3, H, W)` in [-1, 1]."""
    rows = torch.tensor([target.row for target in targets])
    return data.drawings.pictures(rows, [target.finish for target in targets])


def reference_pictures(data: LookData, targets: list[LookTarget]) -> Tensor:
    """Returns real drawings of other concepts at each look's centre, `(B, REFERENCES, 3, H, W)` in [-1, 1]."""
    rows = torch.tensor([row for target in targets for row in target.references])
    finishes = [target.finish for target in targets for _ in target.references]
    return data.drawings.pictures(rows, finishes).unflatten(0, (-1, REFERENCES))
