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
    """One task of a rater, about an item (the index of user and target) and images of `methods`, left to right.

    A ``pair`` compares two images, a ``rating`` rates one, a ``check`` is a pairwise task that names the `expected`
    answer, and a ``practice`` is one that is not analysed.
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
        balance = _Balance(rng.permutation(items - 1).tolist(), rng)
        return [self._tasks_of(rater, balance, methods, items - 1) for rater in range(self.raters)]

    def _tasks_of(self, rater: int, balance: _Balance, methods: Sequence[str], practice: int) -> list[Task]:
        rng = balance.rng
        start = rater * (self.pairs + self.ratings)
        pairs = balance.tasks("pair", list(combinations(methods, 2)), start, self.pairs)
        ratings = balance.tasks("rating", [(method,) for method in methods], start + self.pairs, self.ratings)
        rng.shuffle(pairs)
        rng.shuffle(ratings)
        for number, place in enumerate(sorted(rng.choice(len(pairs) + 1, self.checks).tolist(), reverse=True)):
            seen = pairs[place - 1 if place else 0] if pairs else Task("pair", practice, tuple(methods[:2]))
            expected = SIDES[(rater + number) % len(SIDES)]
            pairs.insert(place, Task("check", seen.item, seen.methods, expected))
        blocks = [pairs, ratings] if rater % 2 == 0 else [ratings, pairs]
        first = Task("practice", practice, tuple(rng.permutation(methods)[:2].tolist()))
        return [first, *blocks[0], *blocks[1]]


class _Balance:
    """Counts what was shown, and chooses what was shown least."""

    def __init__(self, items: Sequence[int], rng: np.random.Generator) -> None:
        self.items, self.rng = items, rng
        self.shown: Counter[object] = Counter()

    def tasks(self, kind: Kind, options: Sequence[tuple[str, ...]], start: int, count: int) -> list[Task]:
        """Returns tasks of one rater that show one of `options` of methods each, from item number `start` on."""
        own: Counter[object] = Counter()
        tasks = []
        for number in range(start, start + count):
            item = self.items[number % len(self.items)]
            shown = self._least(options, lambda one, item=item: (own[one], self.shown[one], self.shown[item, one]))
            own[shown] += 1
            self.shown.update([shown, (item, shown)])
            if kind == "pair":
                sides = [shown, shown[::-1]]
                shown = self._least(sides, lambda side: (self.shown["sides", side], self.shown["left", side[0]]))
                self.shown.update([("sides", shown), ("left", shown[0])])
            tasks.append(Task(kind, item, shown))
        return tasks

    def _least(self, options: Sequence[tuple[str, ...]], count: object) -> tuple[str, ...]:
        order = self.rng.permutation(len(options))
        return min((options[place] for place in order), key=count)  # type: ignore[call-overload]
