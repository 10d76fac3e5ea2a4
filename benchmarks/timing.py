"""Times of two ways in one process, taken in turn, and how many times one is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.progress import track

from pmg.evaluation.statistics import limits

RESAMPLES = 9_999


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """Makes a function that does `work` and returns the seconds that it took."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def alternate(ways: Mapping[str, Callable[[], float]], repeats: int, title: str) -> dict[str, list[float]]:
    """Runs ways in turn, A B A B …, so that whatever the machine does meanwhile meets all of them.

    Args:
        ways: by name, each gives seconds; a first run of each is left out.
        repeats: of the whole round.
        title: of the progress bar.

    Returns:
        Seconds of each way, one a round.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in track(range(repeats + 1), description=title):
        for name, way in ways.items():
            seconds = way()
            if number:
                times[name].append(seconds)
    return times


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartiles": [float(low), float(high)], "n": len(values)}


def speedup(ours: Sequence[float], naive: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """How many times more a second our way does: the ratio of median rates.

    Args:
        ours: things a second, one value a round.
        naive: as `ours`, of the same rounds.
        seed: of the resampling.

    Returns:
        Both rates, their ratio, and its interval (95 %, bootstrap over rounds, both ways of a round together).
    """
    pairs = np.array([ours, naive], dtype=float)
    rows = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    samples = np.median(pairs[:, rows], axis=2)
    low, high = limits(samples[0] / samples[1])
    ratio = float(np.median(ours) / np.median(naive))
    return {"ratio": ratio, "low": low, "high": high, "ours": summary(ours), "naive": summary(naive)}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size by least squares: 1 is linear growth, 2 quadratic, 0 none."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)
