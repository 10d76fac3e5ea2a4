"""Design of a survey: which tasks each rater gets, in which order, balanced over methods, items and sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from pmg.domain import PmgError
from pmg.studio.survey.schema import SurveyDesignConfig

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


def plan_tasks(size: SurveyDesignConfig, methods: Sequence[str], seed: int = 0) -> list[list[Task]]:
    """Returns the tasks of each rater in their order; PmgError if there are fewer than two examples or methods.

    Every pair of methods is shown equally often, within a rater and over all, each with either method on the left
    equally often; a rater compares an item once while there are items left. Raters of even numbers compare first,
    the others rate first. The last item is that of the practice task alone. `seed` is that of all orders.
    """
    if size.examples < 2 or len(methods) < 2:
        found = f"{len(methods)} and {size.examples}"
        raise PmgError(f"a survey needs 2 methods and 2 examples: the run has {found}. Generate more.")
    rng = np.random.default_rng(seed)
    balance = _Balance(rng.permutation(size.examples - 1).tolist(), rng)
    return [_tasks_of(rater, size, methods, balance) for rater in range(size.raters)]


def _tasks_of(rater: int, size: SurveyDesignConfig, methods: Sequence[str], balance: _Balance) -> list[Task]:
    rng, practice = balance.rng, size.examples - 1
    start = rater * (size.pairs + size.ratings)
    pairs = balance.tasks("pair", list(combinations(methods, 2)), start, size.pairs)
    ratings = balance.tasks("rating", [(method,) for method in methods], start + size.pairs, size.ratings)
    rng.shuffle(pairs)
    rng.shuffle(ratings)
    for number, place in enumerate(sorted(rng.choice(len(pairs) + 1, size.checks).tolist(), reverse=True)):
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
        self.sides: Counter[object] = Counter()  # apart, since a method may have any name

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
                shown = self._least(sides, lambda side: (self.sides[side], self.sides[side[0]]))
                self.sides.update([shown, shown[0]])
            tasks.append(Task(kind, item, shown))
        return tasks

    def _least(self, options: Sequence[tuple[str, ...]], count: object) -> tuple[str, ...]:
        order = self.rng.permutation(len(options))
        return min((options[place] for place in order), key=count)  # type: ignore[call-overload]
