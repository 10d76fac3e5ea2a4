"""Ranks of methods with their uncertainty, by a paired bootstrap over users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pmg.evaluation.statistics import LEVEL, Difference, bootstrap_users, paired_difference
from pmg.methods.field.benchmark import Benchmark, Result


@dataclass(frozen=True)
class Standing:
    """A method among others by one measure.

    Attributes:
        rank: 1 is the best mean.
        best: smallest rank of the interval (95 %) over resampled users, for this method alone.
        worst: largest rank of that interval.
        firsts: share of the resamples in which it is the best.
        behind: its paired difference to the method of rank 1; None: it is that one.
    """

    rank: int
    best: int
    worst: int
    firsts: float
    behind: Difference | None


def user_values(result: Result, benchmark: Benchmark, channel: str, measure: str) -> np.ndarray:
    """Returns a measure of each example of a channel, `(U,)`, the mean over seeds, in sorted order of examples."""
    return np.mean([result.cells[f"{channel}/{seed}"][measure] for seed in benchmark.seeds], axis=0)


def rank_methods(values: Mapping[str, np.ndarray], lower_is_better: bool, seed: int = 0) -> dict[str, Standing]:
    """Returns the standing of each method, the best first, of its values `(U,)` on the same users.

    Users are resampled together for all methods. Equal means share the smaller rank.
    """
    names, columns = list(values), np.stack(list(values.values()), axis=1)
    sign = 1.0 if lower_is_better else -1.0
    ranks = rank_rows(sign * columns.mean(axis=0)[None])[0]
    resampled = rank_rows(sign * bootstrap_users(columns, seed))
    edges = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(resampled, edges, axis=0, method="inverted_cdf")  # whole ranks
    order, users = np.argsort(ranks, kind="stable"), np.arange(len(columns))
    return {
        names[place]: Standing(
            int(ranks[place]), int(low[place]), int(high[place]), float((resampled[:, place] == 1).mean()),
            None if place == order[0] else paired_difference(columns[:, place], columns[:, order[0]], users, seed),
        )
        for place in order
    }  # fmt: skip


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of columns in each row `(R, M)`, 1 the smallest value; equal ones share the smaller."""
    return 1 + (values[:, None, :] < values[:, :, None]).sum(axis=2)
