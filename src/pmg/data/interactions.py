"""Real users: what each did, in time, from prepared tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pandas as pd

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count, CountOrZero, NotNegative, Seed, Share
from pmg.data.dataset import Dataset, Timeline
from pmg.data.duplicates import Hashes
from pmg.data.feedback import Feedback
from pmg.data.prepared_images import Pictures
from pmg.data.prepared_tables import MANIFEST, load
from pmg.data.splitting import by_hash, check_split_by, deal
from pmg.data.windowing import Question, Windows
from pmg.domain import Behavior, Example, Item, PmgError
from pmg.seeding import stable_number

log = logging.getLogger(__name__)


class InteractionData(Dataset):
    """A data set of real behaviour.

    Args:
        name: of the data set.
        folder: of the prepared tables (`pmg.data.prepared_tables`).
        feedback: which ratings and actions are likes and dislikes.
        shares: share of each split; they sum to 1.
        min_likes: users with fewer likes are left out.
        seed: of the split.
        windows: how questions are cut from what a user did, where there are pictures.
        split_by: what no two splits share: ``user``, ``item``, or a span of ``time``.
        duplicate_bits: a target whose picture's hash is so near to one of its history, of 64 bits, is not asked for,
        duplicate_colour: if no part of the pictures differs by more than this in colour (CIE 1976).

    Raises:
        PmgError: the shares don't sum to 1, there is no such way to split, or the tables are missing or damaged.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        feedback: Feedback,
        shares: Mapping[str, Share],
        min_likes: Count,
        seed: Seed,
        windows: Windows | None = None,
        split_by: str = "user",
        duplicate_bits: CountOrZero = 6,
        duplicate_colour: NotNegative = 14.0,
    ) -> None:
        if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
            raise PmgError(f"data.shares must be shares that sum to 1, got {dict(shares)}")
        check_split_by(split_by)
        self.name, self.feedback, self.shares = name, feedback, dict(shares)
        self.min_likes, self.seed = min_likes, seed
        self.windows, self.split_by = windows or Windows(), split_by
        self.duplicate_bits, self.duplicate_colour = duplicate_bits, duplicate_colour
        self.folder = folder
        self.items, self.interactions = load(folder, name)
        self.pictures = Pictures.load(folder, name, self.items, self.item)

    @property
    def images(self) -> Pictures:
        """The items that have a picture.

        Raises:
            PmgError: there are none; says which command reads these data.
        """
        if self.pictures is None:
            raise PmgError(f"data={self.name} has no pictures to learn from or to compare with; pmg-keywords reads it")
        return self.pictures

    @property
    def identity(self) -> str:
        """The checksum of the prepared data's manifest, which holds those of its files."""
        return sha256(Path(self.folder, MANIFEST).read_bytes()).hexdigest()

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Examples of a split, checked for leaks: windows of likes, and what was liked next.

        Args:
            split: ``train``, ``validation`` or ``test``.
            users: keep the first so many users, or all; a hash orders them, so that any number is a fair sample.
            targets: keep the first so many examples of each user, or all.

        Raises:
            PmgError: there are no pictures, the split is unknown, empty or smaller than asked for, or it leaks.
        """
        questions = self.questions
        self._check_split(split)
        by_user: dict[str, list[Example]] = {}
        for question in questions[split]:
            by_user.setdefault(question.example.user, []).append(question.example)
        if not by_user:
            likes = f"{self.windows.history} likes and a later one with a picture"
            raise PmgError(
                f"data={self.name}: no user of the split '{split}' has {likes}; see data.shares, data.windows"
            )
        if users is not None and users > len(by_user):
            raise PmgError(f"split '{split}' has {len(by_user)} users with questions, {users} were asked for")
        order = sorted(by_user, key=lambda user: stable_number(self.seed, "order", user))
        return [example for user in order[:users] for example in by_user[user][:targets]]

    @cached_property
    def questions(self) -> dict[str, list[Question]]:
        """All questions by split; those about what the history shows already are left out, and their number logged."""
        has, hashes = self.images.has, Hashes(self.items, self.duplicate_bits, self.duplicate_colour)
        cut = [question for line in self.users for question in self.windows.cut(line.user, line.behaviors, has)]
        new = [question for question in cut if not hashes.is_copy(*question.sight)]
        dealt = deal(new, self.shares, self.split_by, self.seed, hashes.look)
        sizes = ", ".join(f"{len(questions)} {split}" for split, questions in dealt.items())
        told = f"{len(cut) - len(new)} left out, as their target is a near copy of a picture of its history"
        log.info("data=%s: examples: %s; %s", self.name, sizes, told)
        return dealt

    @cached_property
    def item(self) -> dict[str, Item]:
        """Items by id."""
        return {row["id"]: as_item(row) for row in self.items.to_dict("records")}

    @cached_property
    def users(self) -> list[Timeline]:
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

    def timelines(self, split: str) -> list[Timeline]:
        """Returns the users of a split; a hash of the id decides, so that no user moves when others come or go.

        Raises:
            PmgError: there is no such split.
        """
        self._check_split(split)
        return [timeline for timeline in self.users if self._split(timeline.user) == split]

    def _split(self, user: str) -> str:
        return by_hash(self.shares, self.seed, "user", user)

    def _check_split(self, split: str) -> None:
        if split not in self.shares:
            raise PmgError(
                f"data has no split '{split}'{nearest(split, self.shares)} (known: {', '.join(self.shares)})"
            )


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
