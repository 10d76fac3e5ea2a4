"""Data sets of real users' interactions, from prepared tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import pandas as pd

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative, Seed
from pmg.data.dataset import Dataset, Timeline
from pmg.data.duplicates import Hashes
from pmg.data.feedback import Feedback
from pmg.data.prepared_images import PreparedImages
from pmg.data.prepared_tables import MANIFEST, load
from pmg.data.splitting import check_split_by, split_by_hash, split_samples
from pmg.data.windowing import Sample, Windows
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.seeding import stable_number

log = logging.getLogger(__name__)


class InteractionData(Dataset):
    """A data set of real users, whose tastes are not labelled.

    Args:
        name: of the data set.
        folder: of the prepared tables (`pmg.data.prepared_tables`).
        feedback: which ratings and actions are likes and dislikes.
        shares: share of each split; they sum to 1.
        min_likes: users with fewer likes are left out.
        seed: of the split.
        windows: how samples are cut from a user's interactions, where there are images.
        split_by: what no two splits share: ``user``, ``item``, or a span of ``time``.
        duplicate_bits: a sample is left out if the perceptual hash of its target's image differs from one of its
            history in at most so many of 64 bits,
        duplicate_colour: and if no part of the two images differs by more than this in colour (CIE 1976).

    Raises:
        PmgError: the shares don't sum to 1, there is no such way to split, or the tables are missing or damaged.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        feedback: Feedback,
        shares: Mapping[str, Fraction],
        min_likes: Count,
        seed: Seed,
        *,
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
        self.pictures = PreparedImages.load(folder, name, self.items, self.item)

    @property
    def images(self) -> PreparedImages:
        """The images of the items that have one.

        Raises:
            PmgError: no item has one; names the command that needs none.
        """
        if self.pictures is None:
            raise PmgError(f"data={self.name} has no pictures to learn from or to compare with; pmg-keywords reads it")
        return self.pictures

    @property
    def identity(self) -> str:
        """The checksum of the prepared data's manifest, which holds those of its files."""
        return sha256(Path(self.folder, MANIFEST).read_bytes()).hexdigest()

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the examples of a split, checked for leaks: windows of likes, and the next like as target.

        Args:
            split: ``train``, ``validation`` or ``test``.
            users: the first so many users; None: all. A hash orders them, so that any number is a random sample.
            targets: the first so many examples of each user; None: all.

        Raises:
            PmgError: there are no images, the split is unknown, empty or has fewer users, or it leaks.
        """
        samples = self.samples
        self._check_split(split)
        by_user: dict[str, list[Example]] = {}
        for sample in samples[split]:
            by_user.setdefault(sample.example.user, []).append(sample.example)
        if not by_user:
            likes = f"{self.windows.history} likes and a later one with a picture"
            raise PmgError(
                f"data={self.name}: no user of the split '{split}' has {likes}; see data.shares, data.windows"
            )
        if users is not None and users > len(by_user):
            raise PmgError(
                f"split '{split}' has {len(by_user)} users with examples, {users} were requested: lower "
                f"split_sizes.{split}"
            )
        order = sorted(by_user, key=lambda user: stable_number(self.seed, "order", user))
        return [example for user in order[:users] for example in by_user[user][:targets]]

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """All samples by split, without those whose history shows a near copy of the target; logs how many."""
        has, hashes = self.images.has, Hashes(self.items, self.duplicate_bits, self.duplicate_colour)
        cut = [sample for line in self.users for sample in self.windows.cut(line.user, line.interactions, has)]
        new = [sample for sample in cut if not hashes.is_copy(*sample.target_and_history)]
        splits = split_samples(new, self.shares, self.split_by, self.seed, hashes.image_key)
        sizes = ", ".join(f"{len(samples)} {split}" for split, samples in splits.items())
        copies = f"{len(cut) - len(new)} left out, as their target is a near copy of a picture of its history"
        log.info("data=%s: examples: %s; %s", self.name, sizes, copies)
        return splits

    @cached_property
    def item(self) -> dict[str, Item]:
        """Items by id."""
        return {row["id"]: as_item(row) for row in self.items.to_dict("records")}

    @cached_property
    def users(self) -> list[Timeline]:
        """The users with enough likes, in the order of their ids."""
        groups = self.interactions.groupby("user", sort=True)
        found = [Timeline(str(user), self._interactions(rows)) for user, rows in groups]
        return [timeline for timeline in found if len(timeline.liked) >= self.min_likes]

    def _interactions(self, rows: pd.DataFrame) -> tuple[Interaction, ...]:
        items = [self.item[item] for item in rows["item"]]
        rated = rows["rating"].notna().to_numpy()
        times = rows["timestamp"].tolist()
        ratings = [(t, r, s) for t, r, s, yes in zip(items, rows["rating"], times, rated, strict=True) if yes]
        actions = [(t, a, s) for t, a, s, yes in zip(items, rows["action"], times, rated, strict=True) if not yes]
        both = self.feedback.from_ratings(ratings) + self.feedback.from_actions(actions)
        return tuple(sorted(both, key=lambda interaction: interaction.timestamp))

    def timelines(self, split: str) -> list[Timeline]:
        """Returns the users of a split; a hash of the id decides, so that no user moves when others come or go.

        Raises:
            PmgError: there is no such split.
        """
        self._check_split(split)
        return [timeline for timeline in self.users if self._split(timeline.user) == split]

    def _split(self, user: str) -> str:
        return split_by_hash(self.shares, self.seed, "user", user)

    def _check_split(self, split: str) -> None:
        if split not in self.shares:
            raise PmgError(
                f"data has no split '{split}'{nearest(split, self.shares)} (known: {', '.join(self.shares)})"
            )


def as_item(row: Mapping) -> Item:
    """Returns a row of the items' table as an item."""
    return Item(row["id"], row["concept"], row["title"], tuple(row["keywords"]), row["topic"], row["facts"])


def cut_later(timelines: Sequence[Timeline], first: int, least_later: int) -> list[Example]:
    """Returns an example of each user: their first likes as history, the next like as target, all later ones as truth.

    Args:
        timelines: one a user.
        first: likes of the history.
        least_later: users with fewer later likes are left out.
    """
    return [
        Example(timeline.user, timeline.user, timeline.until(first), later[0], later)
        for timeline in timelines
        if len(later := timeline.liked[first:]) >= least_later
    ]
