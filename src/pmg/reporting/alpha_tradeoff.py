"""Accuracy and preference scores as functions of alpha, from the candidates in records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pmg.evaluation.statistics import user_means
from pmg.generation.records import Record
from pmg.generation.selection import balance_z, pick

ALPHAS = tuple(number / 20 for number in range(21))

Point = tuple[float, float]  # accuracy d_t, preference d_p


def alpha_curves(records: Sequence[Record]) -> dict[str, list[Point]]:
    """Returns for each method the mean scores over users of the candidates selected with each of `ALPHAS`.

    Candidates don't depend on alpha, which only selects. Mismatched preferences, methods with one candidate and
    methods without a preference score are left out.
    """
    own = [record for record in records if record.control == "own" and len(record.candidates) > 1]
    scored = [record for record in own if all(each.preference is not None for each in record.candidates)]
    methods = dict.fromkeys(record.method for record in scored)
    return {name: _curve([record for record in scored if record.method == name]) for name in methods}


def _curve(records: Sequence[Record]) -> list[Point]:
    longest = max(len(record.candidates) for record in records)
    # runs with fewer weights are padded with their first candidate, which doesn't change the selection
    tried = [(*each.candidates, *[each.candidates[0]] * (longest - len(each.candidates))) for each in records]
    d_p, d_t = (
        torch.tensor([[getattr(candidate, name) for candidate in row] for row in tried])
        for name in ("preference", "accuracy")
    )
    users = np.array([record.user for record in records])
    picked = [pick(balance_z(d_p, d_t, alpha))[:, None] for alpha in ALPHAS]

    def mean(scores: Tensor, place: Tensor) -> float:
        """Returns the mean over users of the scores `(N, K)` of the picked candidates `(N, 1)`."""
        return float(user_means(scores.gather(1, place)[:, 0].numpy(), users).mean())

    return [(mean(d_t, place), mean(d_p, place)) for place in picked]
