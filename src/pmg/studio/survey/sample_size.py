"""Number of raters for a wanted effect, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from pmg.domain import PmgError
from pmg.studio.survey.clustered import bradley_terry, clustered_intervals
from pmg.studio.survey.design import Task

NODES = 41  # of the quadrature


@dataclass(frozen=True)
class Comparisons:
    """Pairwise tasks of all raters as arrays `(N,)`: indices of methods, rater and item."""

    left: np.ndarray
    right: np.ndarray
    raters: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, plan: Sequence[Sequence[Task]], methods: Sequence[str]) -> Comparisons:
        """Returns the pairwise tasks of a plan."""
        pairs = ((rater, task) for rater, tasks in enumerate(plan) for task in tasks if task.kind == "pair")
        return cls(*np.array([(*map(methods.index, task.methods), rater, task.item) for rater, task in pairs]).T)


@dataclass(frozen=True)
class Raters:
    """A population of raters.

    The utility of a method's image is that of the method, and two normal deviations: of the rater's taste and of the
    item. Ties follow Davidson's model: they are `tie` times as frequent as wins between equals.
    """

    utilities: tuple[float, ...]
    rater_deviation: float = 0.4
    item_deviation: float = 0.4
    tie: float = 0.4

    def scores(self, tasks: Comparisons, count: int, rng: np.random.Generator) -> np.ndarray:
        """Returns the scores of the left images in `count` simulated surveys, `(count, N)`."""
        methods = len(self.utilities)
        taste = self.rater_deviation * rng.standard_normal((count, tasks.raters.max() + 1, methods))
        item = self.item_deviation * rng.standard_normal((count, tasks.items.max() + 1, methods))
        utility = np.array(self.utilities)

        def total(method: np.ndarray) -> np.ndarray:
            """Returns the utility of the image of each task, `(count, N)`."""
            return utility[method] + taste[:, tasks.raters, method] + item[:, tasks.items, method]

        win, tie = self._probabilities(total(tasks.left) - total(tasks.right))
        drawn = rng.random(win.shape)
        return np.where(drawn < win, 1.0, np.where(drawn < win + tie, 0.5, 0.0))

    def _probabilities(self, difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the probabilities that the left image wins, and of a tie."""
        up, down = np.exp(difference / 2), np.exp(-difference / 2)
        return up / (up + down + self.tie), self.tie / (up + down + self.tie)

    def expected_scores(self, difference: np.ndarray) -> np.ndarray:
        """Returns the expected score at a difference of the methods' utilities, over raters and items."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        deviation = np.sqrt(2 * (self.rater_deviation**2 + self.item_deviation**2))
        win, tie = self._probabilities(difference[..., None] + deviation * nodes)
        return (win + tie / 2) @ weights / weights.sum()

    def population_utilities(self, tasks: Comparisons) -> np.ndarray:
        """Returns the utilities `(K,)` that the analysis estimates: those of infinitely many raters and items.

        They are closer together than `utilities`, as effects in every logistic model over a population are.
        """
        utility = np.array(self.utilities)
        expected = self.expected_scores(utility[tasks.left] - utility[tasks.right])
        one = np.zeros_like(tasks.raters)
        return bradley_terry(tasks.left, tasks.right, expected, one, one, len(utility)).values


@dataclass(frozen=True)
class SampleSize:
    """Finds the number of raters by which a difference of two methods is found, see `SampleSizeConfig`.

    Each rater makes `pairs` comparisons of these two; each number of raters has so many `simulations`. PmgError if
    there are fewer than two items: too few for an interval.
    """

    win_rate: float = 0.6
    power: float = 0.8
    pairs: int = 24
    items: int = 24
    deviation: float = 0.4
    simulations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < 2:
            raise PmgError(
                f"an interval needs two items or more, got {self.items}: raise design.examples, one of which is for "
                "practice"
            )

    def power_at(self, raters: int) -> float:
        """Returns the share of simulated surveys of `raters` whose interval excludes 0.5."""
        rng = np.random.default_rng([self.seed, raters])
        chunk = max(1, 2_000_000 // (raters * self.pairs))
        counts = (min(chunk, self.simulations - start) for start in range(0, self.simulations, chunk))
        return sum(self._significant(raters, count, rng) for count in counts) / self.simulations

    def find(self, largest: int = 400) -> tuple[int | None, dict[int, float]]:
        """Returns the smallest number of raters with the wanted power, None above `largest`, and all powers tried."""
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

    def _significant(self, raters: int, count: int, rng: np.random.Generator) -> int:
        """Returns in how many of `count` surveys the clustered interval excludes 0.5."""
        rater = np.repeat(np.arange(raters), self.pairs)
        item = np.arange(raters * self.pairs) % self.items
        equal = Raters((0.0, 0.0), self.deviation, self.deviation)
        better = float(brentq(lambda gap: equal.expected_scores(np.array(gap)) - self.win_rate, 0, 50))
        population = Raters((better, 0.0), self.deviation, self.deviation)
        zero = np.zeros_like(rater)
        scores = population.scores(Comparisons(zero, zero + 1, rater, item), count, rng)
        means, halves = clustered_intervals(scores, rater, item)
        return int((np.abs(means - 0.5) > halves).sum())
