"""Real users: what each did, in time, from prepared tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from pmg.config import nearest
from pmg.data.feedback import Feedback
from pmg.data.splits import stable_number
from pmg.data.tables import load
from pmg.domain import Behavior, Example, Item, PmgError


@dataclass(frozen=True)
class Timeline:
    """One user.

    Attributes:
        user: their id.
        behaviors: likes and dislikes, oldest first.
    """

    user: str
    behaviors: tuple[Behavior, ...]

    @property
    def liked(self) -> tuple[Item, ...]:
        """What they liked, oldest first."""
        return tuple(behavior.item for behavior in self.behaviors if behavior.liked)

    def until(self, likes: int) -> tuple[Behavior, ...]:
        """What they did up to their like of this number, counted from 1."""
        places = [place for place, behavior in enumerate(self.behaviors) if behavior.liked]
        return self.behaviors[: places[likes - 1] + 1]


class InteractionData:
    """A data set of real behaviour.

    Args:
        name: of the data set.
        folder: of the prepared tables (`pmg.data.tables`).
        feedback: which ratings and actions are likes and dislikes.
        shares: share of the users in each split; they sum to 1.
        min_likes: users with fewer likes are left out.
        seed: of the split.

    Raises:
        PmgError: the shares don't sum to 1; the tables are missing or damaged.
    """

    def __init__(
        self, name: str, folder: str, feedback: Feedback, shares: Mapping[str, float], min_likes: int, seed: int
    ) -> None:
        if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
            raise PmgError(f"data.shares must be shares that sum to 1, got {dict(shares)}")
        self.name, self.feedback, self.shares = name, feedback, dict(shares)
        self.min_likes, self.seed = min_likes, seed
        self.items, self.interactions = load(folder, name)

    def examples(self, split: str, *_: object) -> list[Example]:
        """Refuses: there is nothing to draw.

        Raises:
            PmgError: always; says which command reads these data.
        """
        raise PmgError(f"data={self.name} has no pictures to learn from or to compare with; pmg-keywords reads it")

    @cached_property
    def item(self) -> dict[str, Item]:
        """Items by id."""
        return {row["id"]: as_item(row) for row in self.items.to_dict("records")}

    @cached_property
    def timelines(self) -> list[Timeline]:
        """Every user with enough likes, in the order of their ids."""
        groups = self.interactions.groupby("user", sort=True)
        found = [Timeline(str(user), self._behaviors(rows)) for user, rows in groups]
        return [timeline for timeline in found if len(timeline.liked) >= self.min_likes]

    def _behaviors(self, rows: pd.DataFrame) -> tuple[Behavior, ...]:
        things = [self.item[item] for item in rows["item"]]
        rated = rows["rating"].notna().to_numpy()
        times = rows["timestamp"].tolist()
        ratings = [(t, r, s) for t, r, s, yes in zip(things, rows["rating"], times, rated, strict=True) if yes]
        actions = [(t, a, s) for t, a, s, yes in zip(things, rows["action"], times, rated, strict=True) if not yes]
        both = self.feedback.from_ratings(ratings) + self.feedback.from_actions(actions)
        return tuple(sorted(both, key=lambda behavior: behavior.timestamp))

    def users(self, split: str) -> list[Timeline]:
        """The users of a split: dealt by a hash of their id, so that none moves when others come or go.

        Raises:
            PmgError: there is no such split.
        """
        if split not in self.shares:
            raise PmgError(
                f"data has no split '{split}'{nearest(split, self.shares)} (known: {', '.join(self.shares)})"
            )
        return [timeline for timeline in self.timelines if self._split(timeline.user) == split]

    def _split(self, user: str) -> str:
        place, end = stable_number(self.seed, "user", user) % 10**6 / 10**6, 0.0
        for name, share in self.shares.items():
            end += share
            if place < end:
                return name
        return name


def as_item(row: Mapping) -> Item:
    """One row of the items' table."""
    return Item(row["id"], row["concept"], row["title"], tuple(row["keywords"]), row["topic"], row["facts"])


def ask_later(timelines: Sequence[Timeline], first: int, least_later: int) -> list[Example]:
    """Cuts every timeline behind its first `first` likes and asks for what comes next.

    Returns:
        An example a user: history up to the cut, the next like as target, all later likes as truth; users with
        fewer than `least_later` later likes are left out.
    """
    return [
        Example(timeline.user, timeline.user, timeline.until(first), later[0], later)
        for timeline in timelines
        if len(later := timeline.liked[first:]) >= least_later
    ]
