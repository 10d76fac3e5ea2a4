"""Targets that generators of looks are judged on: held-out concepts in looks, with their true pictures."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor

from pmg.looks.drawings import GROUPS, REFERENCES, LookData, LookTarget
from pmg.looks.finishes import AS_DRAWN
from pmg.seeding import stable_number

MORE_GROUPS = (*GROUPS, "trained", "as_drawn")


def draw_targets(data: LookData, split: str, group: str, count: int, seed: int = 0) -> list[LookTarget]:
    """Returns targets of a group; the same ones for the same seed, the first ones of any larger number.

    The split, ``validation`` or ``test``, is that of the held-out cells; groups are ``met`` (seen artists under a
    seen finish), ``unseen_region`` (the same under an unseen finish), ``unseen_artist``, ``trained`` (cells that
    training saw, under a seen finish) and ``as_drawn`` (unseen artists, without a finish).
    """
    if group == "trained":
        cells = data.rows("train").tolist()
    elif group in ("unseen_artist", "as_drawn"):
        cells = [row for row in data.rows("unseen_artists").tolist() if data.cells.split(_concept(data, row)) == split]
    else:
        cells = data.rows(split).tolist()
    shown = data.rows_by_artist("train", "unseen_artists")
    return [_target(data, cells, shown, group, stable_number(seed, split, group, number)) for number in range(count)]


def _target(data: LookData, cells: list[int], shown: dict[str, list[int]], group: str, seed: int) -> LookTarget:
    rng = random.Random(seed)
    row = rng.choice(cells)
    finish = AS_DRAWN if group == "as_drawn" else data.space.sample(rng, seen=group != "unseen_region")
    others = [other for other in shown[data.drawings.artists[row]] if _concept(data, other) != _concept(data, row)]
    return LookTarget(row, finish, tuple(rng.sample(others, REFERENCES)), seed % 2**31)


def by_another_artist(data: LookData, target: LookTarget) -> LookTarget:
    """Returns the target with references by another artist, of the same concepts where they drew them."""
    rng = random.Random(target.seed)
    artist = data.drawings.artists[target.row]
    other = rng.choice(sorted(set(data.drawings.artists) - {artist}))
    shown = data.rows_by_artist("train", "unseen_artists")[other]
    rest = [row for row in shown if _concept(data, row) != _concept(data, target.row)]
    rows = [data.drawings.row.get((_concept(data, row), other)) for row in target.references]
    return replace(target, references=tuple(rng.choice(rest) if row is None else row for row in rows))


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
