"""Number of raters for a wanted effect, by simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from pmg.domain import PmgError
from pmg.studio.survey.clustered import clustered_intervals
from pmg.studio.survey.simulation import Comparisons, Raters


@dataclass(frozen=True)
class SampleSize:
    """Finds the number of raters by which a difference of two methods is found.

    Attributes:
        win_rate: wanted effect: the share of comparisons that the better method wins, ties as half; in (0.5, 1).
        power: wanted probability that the interval excludes 0.5.
        pairs: comparisons of this pair by each rater.
        items: number of items, two at least.
        deviation: standard deviation of utilities between raters, and between items.
        simulations: of each number of raters.
        seed: of the simulation.
    """

    win_rate: float = 0.6
    power: float = 0.8
    pairs: int = 24
    items: int = 24
    deviation: float = 0.4
    simulations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the number of items.

        Raises:
            PmgError: there are too few for an interval.
        """
        if self.items < 2:
            raise PmgError(
                f"an interval needs two items or more, got {self.items}: raise design.examples, one of which is for "
                "practice"
            )

    def power_at(self, raters: int) -> float:
        """Returns the share of simulated surveys of `raters` whose interval excludes 0.5."""
        rng = np.random.default_rng([self.seed, raters])
        found = 0
        chunk = max(1, 2_000_000 // (raters * self.pairs))
        for start in range(0, self.simulations, chunk):
            found += self._significant(raters, min(chunk, self.simulations - start), rng)
        return found / self.simulations

    def find(self, largest: int = 400) -> tuple[int | None, dict[int, float]]:
        """Returns the smallest number of raters with the wanted power, and the power of each number that was tried.

        Args:
            largest: number of raters that is tried; None is returned where it isn't enough.
        """
        tried: dict[int, float] = {}

        def enough(raters: int) -> bool:
            """Returns whether the power is reached."""
            tried[raters] = self.power_at(raters)
            return tried[raters] >= self.power

        low, high = 1, 2
        while not enough(high):
            low, high = high, min(2 * high, largest)
            if low == largest:
                return None, tried
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high, dict(sorted(tried.items()))

    def _difference(self) -> float:
        """Returns the difference of utilities at which the better method wins `win_rate` of all comparisons."""
        raters = Raters((0.0, 0.0), self.deviation, self.deviation)
        return float(brentq(lambda d: raters.expected_scores(np.array(d)) - self.win_rate, 0, 50))

    def _significant(self, raters: int, count: int, rng: np.random.Generator) -> int:
        """Returns in how many of `count` surveys the clustered interval excludes 0.5."""
        rater = np.repeat(np.arange(raters), self.pairs)
        item = np.arange(raters * self.pairs) % self.items
        population = Raters((self._difference(), 0.0), self.deviation, self.deviation)
        zero = np.zeros_like(rater)
        scores = population.scores(Comparisons(zero, zero + 1, rater, item), count, rng)
        means, halves = clustered_intervals(scores, rater, item)
        return int((np.abs(means - 0.5) > halves).sum())
