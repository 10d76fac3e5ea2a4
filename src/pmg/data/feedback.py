"""Converts ratings and actions to likes and dislikes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pmg.domain import Interaction, Item, PmgError


@dataclass(frozen=True)
class Feedback:
    """Thresholds and actions that make an interaction a like or a dislike.

    Attributes:
        like_from: ratings from here up are likes.
        dislike_to: ratings up to here are dislikes; those between are left out.
        negative: actions that are dislikes, e.g. ``{"hidden", "returned"}``.

    Raises:
        PmgError: a rating would be both.
    """

    like_from: float = 4.0
    dislike_to: float = 2.0
    negative: Collection[str] = ("hidden", "returned", "reported")

    def __post_init__(self) -> None:
        if self.dislike_to >= self.like_from:
            raise PmgError(f"feedback: dislike_to ({self.dislike_to}) must be below like_from ({self.like_from})")

    def from_ratings(self, ratings: Iterable[tuple[Item, float, int]]) -> list[Interaction]:
        """Returns (item, rating, timestamp) as behaviours, oldest first; without ratings that are neither."""
        clear = [row for row in ratings if not self.dislike_to < row[1] < self.like_from]
        return [
            Interaction(item, f"rated {rating:g}", time, liked=rating >= self.like_from)
            for item, rating, time in sorted(clear, key=lambda row: row[2])
        ]

    def from_actions(self, actions: Iterable[tuple[Item, str, int]]) -> list[Interaction]:
        """Returns (item, action, timestamp) as behaviours, oldest first."""
        ordered = sorted(actions, key=lambda row: row[2])
        return [Interaction(item, action, time, liked=action not in self.negative) for item, action, time in ordered]
