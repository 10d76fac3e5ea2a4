"""Simulated raters with known utilities, by which the analysis is checked and the sample size is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pmg.studio.survey.clustered import bradley_terry
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
        rows = [
            (*(methods.index(name) for name in task.methods), rater, task.item)
            for rater, tasks in enumerate(plan)
            for task in tasks
            if task.kind == "pair"
        ]
        return cls(*np.array(rows).T)


@dataclass(frozen=True)
class Raters:
    """A population of raters.

    The utility of a method's image is that of the method, and two normal deviations: of the rater's taste and of the
    item. Ties follow Davidson's model.

    Attributes:
        utilities: of methods, `(K,)`.
        rater_deviation: standard deviation between raters.
        item_deviation: standard deviation between items.
        tie: ties are this many times as frequent as wins between equals.
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
