"""Converts ratings and actions to likes and dislikes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from sys import intern

from pmg.cache import atomic_write_json
from pmg.configuration.instantiate import nearest
from pmg.domain import Interaction, Item, PmgError

LIKES = {
    "added", "added_to_cart", "bought", "buy", "cart", "chose", "click", "clicked", "favorite", "favorited",
    "favourite", "favourited", "like", "liked", "loved", "order", "ordered", "purchase", "purchased", "read", "save",
    "saved", "sent", "share", "shared", "used", "view", "viewed", "watched",
}  # fmt: skip
DISLIKES = {
    "blocked", "cancelled", "dislike", "disliked", "hidden", "hide", "refund", "refunded", "removed", "report",
    "reported", "return", "returned", "skip", "skipped", "unliked",
}  # fmt: skip
"""Actions whose sign is known; upper case doesn't matter."""

RECORD = "feedback.json"  # in the folder of prepared tables


@dataclass(frozen=True)
class Feedback:
    """Thresholds and actions that make an interaction a like or a dislike; PmgError if one would be both.

    Ratings from `like_from` up are likes, those up to `dislike_to` dislikes, and those between are left out.
    `positive` actions are likes beside `LIKES`, `negative` ones dislikes beside `DISLIKES`.
    """

    like_from: float = 4.0
    dislike_to: float = 2.0
    positive: Collection[str] = ()
    negative: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.dislike_to >= self.like_from:
            raise PmgError(f"data.feedback: dislike_to ({self.dislike_to}) must be below like_from ({self.like_from})")
        if both := sorted({*self.positive} & {*self.negative}):
            raise PmgError(f"data.feedback: '{both[0]}' is both positive and negative")

    @classmethod
    def recorded(cls, folder: str | Path, given: Feedback) -> Feedback:
        """Returns `given` with what the `pmg-prepare` that wrote the folder had.

        Its actions where `given` names none, and its thresholds where these have their defaults.
        """
        path, names = Path(folder, RECORD), [] if given.positive or given.negative else ["positive", "negative"]
        if (given.like_from, given.dislike_to) == (cls.like_from, cls.dislike_to):
            names += ["like_from", "dislike_to"]
        if not path.is_file():
            return given
        try:
            known = json.loads(path.read_text())
            return replace(given, **{name: known[name] for name in names})
        except (ValueError, TypeError, KeyError):
            raise PmgError(
                f"{path} is damaged. Delete it and name likes and dislikes: data.feedback.positive"
            ) from None

    def record(self, folder: str | Path) -> None:
        """Writes actions and thresholds beside the tables, for commands that name none."""
        actions = {"positive": [*self.positive], "negative": [*self.negative]}
        atomic_write_json(Path(folder, RECORD), {**vars(self), **actions})

    def likes(self, action: str) -> bool | None:
        """Returns whether an action is a like, or a dislike; None: neither is known."""
        if action in self.positive or action in self.negative:
            return action in self.positive
        name = action.lower().replace(" ", "_")
        return name in LIKES if name in LIKES | DISLIKES else None

    def check(self, counts: Mapping[str, int]) -> None:
        """Compares the config with the actions of a data set, given with their numbers.

        PmgError if an action's sign is not known, or the config names an action that never occurs.
        """
        found = ", ".join(f"{action} ({count})" for action, count in counts.items())
        for key, actions in (("positive", self.positive), ("negative", self.negative)):
            if absent := [action for action in actions if action not in counts]:
                hint = nearest(absent[0], counts)
                raise PmgError(f"data.feedback.{key}: no interaction is '{absent[0]}'{hint}; there are {found}")
        if unknown := [action for action in counts if self.likes(action) is None]:
            names = ", ".join(unknown)
            raise PmgError(
                f"is '{unknown[0]}' a like or a dislike? Name each of {names} in data.feedback.positive=[…] or "
                f"data.feedback.negative=[…]; there are {found}"
            )

    def read(self, item: Item, action: str, rating: float, time: int) -> Interaction | None:
        """Returns what a user did with an item; None if its rating, NaN where there is none, is neither of the two."""
        if math.isnan(rating):
            return Interaction(item, intern(action), time, bool(self.likes(action)))
        if self.dislike_to < rating < self.like_from:
            return None
        return Interaction(item, intern(f"rated {rating:g}"), time, liked=rating >= self.like_from)
