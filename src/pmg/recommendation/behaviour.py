"""What users liked, cut in time: what is learned from, what settings are chosen on, and what is to be foreseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pmg.data.dataset import Timeline
from pmg.domain import Item, PmgError

Likes = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Behaviour:
    """The likes of users, each item once, as ids by user, oldest first; `items` are all of them by id.

    `train` has the first likes of every user, `validation` those behind them, of users with at least three likes, and
    `test` the last ones of the same users.
    """

    items: Mapping[str, Item]
    train: Likes
    validation: Likes
    test: Likes

    @classmethod
    def cut(cls, timelines: Iterable[Timeline], validation: float, test: float) -> Behaviour:
        """Cuts every user's likes in time; PmgError if no user has three likes, or the shares sum to 1 or more.

        `validation` and `test` are shares of a user's likes, each at least one; users without a like are left out.
        """
        if validation + test >= 1:
            raise PmgError(f"shares.validation + shares.test must be below 1, got {validation + test:g}")
        liked = {line.user: line.liked for line in timelines if line.liked}
        items = {item.id: item for one in liked.values() for item in one}
        parts: tuple[dict[str, tuple[str, ...]], ...] = ({}, {}, {})
        for user, theirs in liked.items():
            ids = tuple(dict.fromkeys(item.id for item in theirs))
            first, chosen = len(ids), 0
            if len(ids) >= 3:  # at least one in each part
                chosen = min(max(1, round(validation * len(ids))), len(ids) - 2)
                first = max(1, len(ids) - chosen - max(1, round(test * len(ids))))
            cuts = (ids[:first], ids[first : first + chosen], ids[first + chosen :])
            for part, cut in zip(parts, cuts, strict=True):
                if cut:
                    part[user] = cut
        if not parts[2]:
            raise PmgError(
                f"none of {len(liked)} users likes three items: there is nothing to foresee. Give more interactions"
            )
        return cls(items, *parts)

    @property
    def known(self) -> set[str]:
        """Ids of the items that five users or more like in the part that is learned from; others are new."""
        return {item for item, count in self._counts().items() if count >= 5}

    def popular(self, count: int) -> tuple[str, ...]:
        """Returns ids of the items that most users like in the part that is learned from, most first."""
        counts = self._counts()
        return tuple(sorted(counts, key=lambda item: (-counts[item], item))[:count])

    def _counts(self) -> Counter[str]:
        return Counter(item for ids in self.train.values() for item in ids)
