"""Design of a survey: which tasks each rater gets, in which order, balanced over methods, items and sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from pmg.domain import PmgError

Kind = Literal["practice", "pair", "rating", "check"]
SIDES = ("left", "right", "tie")
"""Answers of a pairwise task; ``tie``: no preference."""


@dataclass(frozen=True)
class Task:
    """One task of a rater.

    Attributes:
        kind: ``pair`` compares two images, ``rating`` rates one, ``check`` is a pairwise task that names the answer,
            ``practice`` is a pairwise task that is not analysed.
        item: index of the item (user and target).
        methods: methods of the images, left to right; one for a rating.
        expected: the correct answer of a ``check``; else empty.
    """

    kind: Kind
    item: int
    methods: tuple[str, ...]
    expected: str = ""


@dataclass(frozen=True)
class Design:
    """Size of a survey, see `SurveyDesignConfig`; `seed` is that of all orders."""

    raters: int = 30
    pairs: int = 24
    ratings: int = 8
    checks: int = 5
    seed: int = 0

    def plan(self, items: int, methods: Sequence[str]) -> list[list[Task]]:
        """Returns the tasks of each rater in their order; PmgError if there are fewer than two items or methods.

        Every pair of methods is shown equally often, within a rater and over all, each with either method on the left
        equally often; a rater compares an item once while there are items left. Raters of even numbers compare first,
        the others rate first. The last item is that of the practice task alone.
        """
        if items < 2 or len(methods) < 2:
            raise PmgError(
                f"a survey needs 2 methods and 2 examples: the run has {len(methods)} and {items}. Generate more."
            )
        rng = np.random.default_rng(self.seed)
        balance = _Balance(rng.permutation(items - 1).tolist(), list(methods), rng)
        return [self._tasks_of(rater, balance, items - 1) for rater in range(self.raters)]

    def _tasks_of(self, rater: int, balance: _Balance, practice: int) -> list[Task]:
        rng = balance.rng
        start = rater * (self.pairs + self.ratings)
        pairs = balance.pairs(start, self.pairs)
        ratings = balance.ratings(start + self.pairs, self.ratings)
        rng.shuffle(pairs)
        rng.shuffle(ratings)
        for number, place in enumerate(sorted(rng.choice(len(pairs) + 1, self.checks).tolist(), reverse=True)):
            seen = pairs[place - 1 if place else 0] if pairs else Task("pair", practice, tuple(balance.methods[:2]))
            expected = SIDES[(rater + number) % len(SIDES)]
            pairs.insert(place, Task("check", seen.item, seen.methods, expected))
        blocks = [pairs, ratings] if rater % 2 == 0 else [ratings, pairs]
        first = Task("practice", practice, tuple(rng.permutation(balance.methods)[:2].tolist()))
        return [first, *blocks[0], *blocks[1]]


class _Balance:
    """Counts what was shown, and chooses what was shown least."""

    def __init__(self, items: Sequence[int], methods: Sequence[str], rng: np.random.Generator) -> None:
        self.items, self.methods, self.rng = items, methods, rng
        self.shown: Counter[object] = Counter()

    def pairs(self, start: int, count: int) -> list[Task]:
        """Returns pairwise tasks of one rater, from item number `start` on."""
        own: Counter[object] = Counter()
        tasks = []
        for number in range(count):
            item = self.items[(start + number) % len(self.items)]
            options = [tuple(pair) for pair in combinations(self.methods, 2)]
            pair = self._least(options, lambda pair, item=item: (own[pair], self.shown[pair], self.shown[item, pair]))
            sides = [pair, pair[::-1]]
            left = self._least(sides, lambda side: (self.shown["sides", side], self.shown["left", side[0]]))
            own[pair] += 1
            self.shown.update([pair, (item, pair), ("sides", left), ("left", left[0])])
            tasks.append(Task("pair", item, left))
        return tasks

    def ratings(self, start: int, count: int) -> list[Task]:
        """Returns rating tasks of one rater, from item number `start` on."""
        own: Counter[str] = Counter()
        tasks = []
        for number in range(count):
            item = self.items[(start + number) % len(self.items)]
            (method,) = self._least(
                [(method,) for method in self.methods],
                lambda one, item=item: (own[one[0]], self.shown["rated", one[0]], self.shown["rated", item, one[0]]),
            )
            own[method] += 1
            self.shown.update([("rated", method), ("rated", item, method)])
            tasks.append(Task("rating", item, (method,)))
        return tasks

    def _least(self, options: Sequence[tuple[str, ...]], count: object) -> tuple[str, ...]:
        order = self.rng.permutation(len(options))
        return min((options[place] for place in order), key=count)  # type: ignore[call-overload]
