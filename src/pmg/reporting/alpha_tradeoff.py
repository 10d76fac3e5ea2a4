"""Accuracy against preference: what any alpha would have picked among the candidates that runs recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pmg.evaluation.statistics import user_means
from pmg.generation.records import Record
from pmg.generation.selection import balance_z, pick

ALPHAS = tuple(number / 20 for number in range(21))

Point = tuple[float, float]  # accuracy d_t, preference d_p


def alpha_curves(records: Sequence[Record]) -> dict[str, list[Point]]:
    """For each method mean scores over users of what each of `ALPHAS` picks, own preference alone.

    Candidates don't depend on alpha, which picks among them; methods with a single candidate or without a
    preference score have nothing to pick and are left out.
    """
    own = [record for record in records if record.control == "own" and len(record.candidates) > 1]
    scored = [record for record in own if all(each.preference is not None for each in record.candidates)]
    methods = dict.fromkeys(record.method for record in scored)
    return {name: _curve([record for record in scored if record.method == name]) for name in methods}


def _curve(records: Sequence[Record]) -> list[Point]:
    longest = max(len(record.candidates) for record in records)
    # where runs tried different numbers of weights, the first candidate fills up: it changes no choice
    tried = [(*each.candidates, *[each.candidates[0]] * (longest - len(each.candidates))) for each in records]
    d_p, d_t = (
        torch.tensor([[getattr(candidate, name) for candidate in row] for row in tried])
        for name in ("preference", "accuracy")
    )
    users = np.array([record.user for record in records])
    picked = [pick(balance_z(d_p, d_t, alpha))[:, None] for alpha in ALPHAS]
    return [
        tuple(float(user_means(scores.gather(1, place)[:, 0].numpy(), users).mean()) for scores in (d_t, d_p))
        for place in picked
    ]
