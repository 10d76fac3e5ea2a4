"""Ranks of methods with their uncertainty, by a paired bootstrap over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pmg.evaluation.statistics import bootstrap_users, limits
from pmg.methods.field.benchmark import Benchmark, Result

LOWER_IS_BETTER = ("lpips_truth", "finish_error")


@dataclass(frozen=True)
class Standing:
    """A method among others by one measure.

    Attributes:
        mean: over users, of means over seeds.
        low: of its interval (95 %).
        high: of its interval.
        rank: 1 is the best mean.
        best: smallest rank of the interval (95 %) over resampled users.
        worst: largest rank of that interval.
        firsts: share of the resamples in which it is the best.
    """

    mean: float
    low: float
    high: float
    rank: int
    best: int
    worst: int
    firsts: float


def user_values(result: Result, benchmark: Benchmark, channel: str, measure: str) -> np.ndarray:
    """Returns a measure of each example of a channel, `(U,)`, the mean over seeds, in sorted order of examples."""
    cells: list[Mapping[str, Sequence[float]]] = [result.cells[f"{channel}/{seed}"] for seed in benchmark.seeds]
    return np.mean([cell[measure] for cell in cells], axis=0)


def rank_methods(values: Mapping[str, np.ndarray], lower_is_better: bool, seed: int = 0) -> dict[str, Standing]:
    """Returns the standing of each method, the best first, of its values `(U,)` on the same users.

    Users are resampled together for all methods. Equal means share the smaller rank.
    """
    columns = np.stack(list(values.values()), axis=1)
    sign = 1.0 if lower_is_better else -1.0
    means, resampled = columns.mean(axis=0), bootstrap_users(columns, seed)
    ranks, many = rank_rows(sign * means[None])[0], rank_rows(sign * resampled)
    found = {}
    for place in np.argsort(ranks, kind="stable"):
        best, worst = limits(many[:, place])
        found[list(values)[place]] = Standing(
            float(means[place]), *limits(resampled[:, place]), int(ranks[place]), round(best), round(worst),
            float((many[:, place] == 1).mean()),
        )  # fmt: skip
    return found


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of columns in each row `(R, M)`, 1 the smallest value; equal ones share the smaller."""
    return 1 + (values[:, None, :] < values[:, :, None]).sum(axis=2)


def way_to_truth(
    values: Mapping[str, np.ndarray], method: str, start: str = "none", end: str = "oracle"
) -> float | None:
    """Returns the share of the way from method `start` to `end` that a method goes; None: one of them is missing."""
    if start not in values or end not in values:
        return None
    whole = values[start].mean() - values[end].mean()
    return float((values[start].mean() - values[method].mean()) / whole) if whole else None
