"""Intervals and tests over users: the values of a user's examples are averaged first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t, ttest_rel

LEVEL = 0.95
RESAMPLES = 9_999
CHUNK, DRAWN = 512, 2**19  # most resamples drawn at once; most users in all of them, if it is more than one
MANY = 2_000  # users; of more, no resamples are kept, and no pairs swapped


@dataclass(frozen=True)
class Interval:
    """A mean over users with its bootstrap interval (95 %); `n` users."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A paired difference of means over users, with interval and the p-value of `swap_test`."""

    mean: float
    low: float
    high: float
    p: float


def user_means(values: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Returns the mean of each user's values, `(U,)`, users sorted.

    ValueError if there is nothing, lengths differ, or a value is not finite.
    """
    values, users = np.asarray(values, dtype=float), np.asarray(users)
    if values.ndim != 1 or values.shape != users.shape or not len(values):
        raise ValueError(f"values of shape {values.shape} came with users of shape {users.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {len(values)} values are not finite")
    return pd.Series(values).groupby(users, sort=True).mean().to_numpy()


def bootstrap_users(columns: np.ndarray, seed: int) -> np.ndarray:
    """Returns means of `columns` `(U, K)`, a row a user, over resampled users, `(RESAMPLES, K)`; pairs stay pairs."""
    centre, count = columns.mean(axis=0), len(columns)
    drawn = _kept_draws(count, seed) if count <= MANY else _draw(count, seed)
    return np.concatenate([centre + times @ (columns - centre) / count for times in drawn])


def _draw(count: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each of U users was drawn, `(R, U)`, in chunks of resamples."""
    rng, most = np.random.default_rng(seed), max(1, min(CHUNK, DRAWN // count))
    for size in (min(most, RESAMPLES - start) for start in range(0, RESAMPLES, most)):
        places = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(places.ravel(), minlength=size * count).reshape(size, count)


@lru_cache(maxsize=2)
def _kept_draws(count: int, seed: int) -> list[np.ndarray]:
    """Returns what `_draw` yields: thousands of differences of a study resample the same users alike."""
    return [times.astype(np.uint16) for times in _draw(count, seed)]


@lru_cache(maxsize=2)
def _signs(count: int, seed: int) -> np.ndarray:
    """Returns signs of U pairs, -1 where they are swapped, `(R, U)`: all 2^U, or `RESAMPLES` drawn if fewer."""
    if 2**count <= RESAMPLES:
        swapped = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        swapped = np.random.default_rng(seed).integers(2, size=(RESAMPLES, count), dtype=np.int8)
    return 1 - 2 * swapped.astype(np.int8)


def limits(samples: np.ndarray) -> tuple[float, float]:
    """Returns the percentile interval of bootstrap samples `(R,)` at `LEVEL`."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval(values: np.ndarray, users: np.ndarray, seed: int = 0) -> Interval:
    """Returns the mean over users of values `(N,)`, one a row, and its cluster-bootstrap interval."""
    means = user_means(values, users)
    low, high = limits(bootstrap_users(means[:, None], seed)[:, 0])
    return Interval(float(means.mean()), low, high, len(means))


def mean_of_runs(values: np.ndarray) -> Interval:
    """Returns the mean over runs `(R,)` with Student's interval: there are too few of them to resample.

    A single run has no interval: its limits are not numbers.
    """
    mean, count = float(np.mean(values)), len(values)
    half = t.ppf((1 + LEVEL) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Interval(mean, float(mean - half), float(mean + half), count)


def intervals(means: pd.DataFrame) -> dict[str, Interval]:
    """Returns `interval` of every column of users' means `(U, K)`, by its name; NaN where a user has none."""
    sizes: dict[int, list[Any]] = {}
    for name in means:
        sizes.setdefault(int(means[name].count()), []).append(name)
    found = {}
    for size, names in sizes.items():
        if size:
            columns = np.stack([means[name].dropna() for name in names], axis=1)
            samples = bootstrap_users(columns, 0)  # once for all: resampling costs more than averaging
            for place, name in enumerate(names):
                found[name] = Interval(float(columns[:, place].mean()), *limits(samples[:, place]), size)
    return {name: found[name] for name in means if name in found}


def paired_difference(a: np.ndarray, b: np.ndarray, users: np.ndarray, seed: int = 0) -> Difference:
    """Returns the mean of a - b over users, rows being pairs `(N,)` (same example, same seed)."""
    means_a, means_b = user_means(a, users), user_means(b, users)
    low, high = limits(bootstrap_users((means_a - means_b)[:, None], seed)[:, 0])
    return Difference(float((means_a - means_b).mean()), low, high, swap_test(means_a, means_b, seed))


def swap_test(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Returns the two-sided p-value of the hypothesis that a and b, `(U,)` in pairs, can be swapped within pairs.

    Of more than `MANY` pairs it is that of a paired t-test, to which it converges.
    """
    if len(a) > MANY:
        return float(np.nan_to_num(ttest_rel(a, b).pvalue, nan=1.0))  # not a number where all are equal
    differences, signs = a - b, _signs(len(a), seed)
    sums = np.concatenate([signs[start : start + CHUNK] @ differences for start in range(0, len(signs), CHUNK)])
    observed, rounding = differences.sum(), 1e-12 * np.abs(differences).sum()
    rarer = min((sums >= observed - rounding).sum(), (sums <= observed + rounding).sum())
    drawn = 2 ** len(a) > RESAMPLES  # then what is observed counts as one more, see Phipson & Smyth (2010)
    return float(min(1.0, 2 * (rarer + drawn) / (len(signs) + drawn)))


def share_of_gap(
    baseline: np.ndarray, method: np.ndarray, oracle: np.ndarray, users: np.ndarray, seed: int = 0
) -> Interval:
    """Returns the share of the gap that a method closes: (baseline - method) / (baseline - oracle).

    Values `(N,)` of all three are of the same examples and seeds. The ratio is of means over users, its interval
    a bootstrap one; it is not finite where there is no gap.
    """
    columns = np.stack([user_means(values, users) for values in (baseline, method, oracle)], axis=1)
    samples = np.concatenate([columns.mean(axis=0, keepdims=True), bootstrap_users(columns, seed)])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (samples[:, 0] - samples[:, 1]) / (samples[:, 0] - samples[:, 2])
    low, high = limits(ratios[1:]) if np.isfinite(ratios).all() else (np.nan, np.nan)
    return Interval(float(ratios[0]), low, high, len(columns))
