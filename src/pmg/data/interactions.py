"""Data sets of real users' interactions, from prepared tables."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Fraction, Seed
from pmg.data.dataset import Dataset, Timeline, check_split
from pmg.data.duplicates import Hashes, NearCopies
from pmg.data.feedback import Feedback
from pmg.data.picture_groups import StoredPictures
from pmg.data.prepared_tables import PreparedImages, load
from pmg.data.windowing import CutExamples, Sample, SplitBy, Windows, split_by_hash, split_samples
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.seeding import stable_number

log = logging.getLogger(__name__)

NEAR_COPIES = NearCopies()
PICTURE_SHARES = {"train": 0.95, "validation": 0.05}  # of the pictures that models are pretrained on


class InteractionData(Dataset):
    """A data set of real users, whose tastes are not labelled, from the prepared tables in `folder`.

    PmgError if the shares of the splits don't sum to 1, or the tables are missing or damaged.

    Args:
        feedback: which ratings and actions are likes and dislikes.
        min_likes: users with fewer likes are left out.
        windows: how samples are cut from a user's interactions, where there are images.
        split_by: what no two splits share: ``user``, ``item``, or a span of ``time``.
        duplicates: a sample is left out if its target's image is a near copy of one of its history; None: only if
            it is the same item.
        look: name of the fact that says which look an item has, for pretraining; None: what one user liked.

    Attributes:
        actions: how often each action occurs, the most frequent one first; interactions with a rating don't count.
    """

    def __init__(
        self, name: str, folder: str, feedback: Feedback, shares: Mapping[str, Fraction], min_likes: Count, seed: Seed,
        *, windows: Windows | None = None, split_by: SplitBy = "user", duplicates: NearCopies | None = NEAR_COPIES,
        look: str | None = None,
    ) -> None:  # fmt: skip
        if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
            raise PmgError(f"data.shares must be shares that sum to 1, got {dict(shares)}")
        self.name, self.feedback, self.shares = name, Feedback.recorded(folder, feedback), dict(shares)
        self.min_likes, self.seed = min_likes, seed
        self.windows, self.split_by = windows or Windows(), split_by
        self.duplicates, self.folder, self.look = duplicates, folder, look
        self.items, table = load(folder, name)
        counts = table.loc[table["rating"].isna(), "action"].value_counts()
        self.actions = {str(action): int(count) for action, count in counts.items()}
        self.feedback.check(self.actions)
        coded = [pd.factorize(table[name], use_na_sentinel=False) for name in ("user", "item", "action")]
        texts = [names.to_numpy(object)[codes] for codes, names in coded]  # each text is in memory once
        self._columns = [*texts, table["rating"].to_numpy(), table["timestamp"].to_numpy()]
        # the row behind each user's last one
        self._ends = [*np.flatnonzero(np.diff(coded[0][0])) + 1, len(table)]
        self.pictures = PreparedImages.load(folder, name, self.items, self.item)

    @property
    def images(self) -> PreparedImages:
        """The images of the items that have one; PmgError with the command that needs none if no item has one."""
        if self.pictures is None:
            raise PmgError(f"data={self.name} has no pictures to learn from or to compare with; pmg-keywords reads it")
        return self.pictures

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> CutExamples:
        """Returns windows of likes, with the next like as target, see `Dataset.examples` for the arguments.

        A hash orders the users, so that any number is a random sample. PmgError if there are no images, the split is
        unknown, empty or has fewer users, or it leaks into another.
        """
        check_split(split, None, self.shares)
        by_user: dict[str, list[Sample]] = {}
        for sample in self.samples[split]:
            by_user.setdefault(sample.user, []).append(sample)
        if not by_user:
            likes = f"{self.windows.history} likes and a later one with a picture"
            raise PmgError(
                f"data={self.name}: no user of the split '{split}' has {likes}; see data.shares, data.windows"
            )
        check_split(split, users, {split: len(by_user)})
        order = sorted(by_user, key=lambda user: stable_number(self.seed, "order", user))
        cut = partial(self._cut, has_image=self.images.has)
        return CutExamples(cut, [sample for user in order[:users] for sample in by_user[user][:targets]])

    @property
    def picture_items(self) -> list[Item]:
        """The items that have a picture, by row, see `PictureGroups`."""
        return self.images.items

    def rows(self, split: str) -> Tensor:
        """Returns the rows of the pictures of a split, int64 `(N,)`: a hash of the item decides."""
        splits = [split_by_hash(PICTURE_SHARES, self.seed, "picture", item.id) for item in self.picture_items]
        return torch.tensor([row for row, found in enumerate(splits) if found == split], dtype=torch.int64)

    def picture_source(self, split: str) -> StoredPictures:
        """Returns the pictures of a split, half of them mirrored."""
        return StoredPictures(self.images, self.rows(split), self.images.size)

    def draw_pictures(self, rows: Tensor, rng: random.Random) -> Tensor:
        """Returns the pictures of rows `(B,)`."""
        return self.images.pixels(rows)

    def draw_group(self, split: str, size: int, rng: random.Random) -> tuple[list[int], Tensor]:
        """Returns rows and pictures of items of one look, see `PictureGroups`.

        A look is the value of the fact `look`, or without one what a user liked in the examples to train on: no group
        holds what a test user chose. PmgError if no look has so many pictures.
        """
        wide = [group for group in self._looks.get(split, []) if len(group["train"]) >= size]
        if not wide:
            key = f"data.look={self.look}: no value" if self.look else "data.look=null: no user"
            facts = ", ".join(dict.fromkeys(name for item in self.picture_items for name in item.facts)) or "none"
            raise PmgError(f"{key} has {size} pictures to learn a look from. Name a fact ({facts}), or add pictures")
        group = rng.choice(wide)
        first = rng.choice(group[split])
        rows = [first, *rng.sample([row for row in group["train"] if row != first], size - 1)]
        return rows, self.images.pixels(torch.tensor(rows))

    @cached_property
    def _looks(self) -> dict[str, list[dict[str, list[int]]]]:
        """Rows by split of each look, for each split the looks that have a picture of it."""
        members: dict[str, dict[int, None]] = {}
        if self.look:
            for row, item in enumerate(self.picture_items):
                members.setdefault(item.facts.get(self.look, ""), {})[row] = None
            members.pop("", None)
        else:
            for example in CutExamples(partial(self._cut, has_image=self.images.has), self.samples.get("train", [])):
                liked = [item for item in (*example.liked, *example.truth) if self.images.has(item)]
                members.setdefault(example.user, {}).update(dict.fromkeys(self.images.rows(liked).tolist()))
        of_split = {split: set(self.rows(split).tolist()) for split in PICTURE_SHARES}
        looks = [
            {split: [row for row in look if row in rows] for split, rows in of_split.items()}
            for look in members.values()
        ]
        return {split: [look for look in looks if look[split]] for split in PICTURE_SHARES}

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """All samples by split, without those whose history shows a near copy of the target; logs how many."""
        has, hashes = self.images.has, Hashes(self.items, self.duplicates)
        new, cut = [], 0
        for index in range(len(self._ends)):
            for place, (example, time) in enumerate(self._cut(index, has)):
                cut += 1
                if not hashes.is_copy(example.target, [one.item for one in example.history]):
                    new.append(Sample(example.user, example.target, time, index, place))
        splits = split_samples(new, self.shares, self.split_by, self.seed, hashes.image_key)
        log.info("data=%s: examples: %s", self.name, ", ".join(f"{len(own)} {split}" for split, own in splits.items()))
        if copies := cut - len(new):
            log.info(
                "data=%s: %d of %d examples left out: the target's picture is a near copy of one of the history (see "
                "data.duplicates.bits and .colour; data.duplicates=null keeps them)", self.name, copies, cut
            )  # fmt: skip
        return splits

    def describe(self) -> dict[str, Any]:
        """Returns what the interactions became, by name: the sign of each action, users, and examples by split.

        A split without an example is logged as a warning.
        """
        signs = {action: "like" if self.feedback.likes(action) else "dislike" for action in self.actions}
        facts: dict[str, Any] = {
            "titles": f"{self.items['title'].nunique()} for {len(self.items)} items (what each shows, without brand)",
            "actions": ", ".join(f"{action} {n} ({signs[action]})" for action, n in self.actions.items()),
            "users with enough likes": f"{sum(1 for _ in self.users())} of {len(self._ends)} "
            f"(data.min_likes={self.min_likes})",
        }
        if self.pictures is not None:
            facts["examples"] = ", ".join(f"{split} {len(samples)}" for split, samples in self.samples.items())
            if empty := [split for split, samples in self.samples.items() if not samples]:
                log.warning(
                    "data=%s: no example for %s, too little to train on: more users are needed with %d likes and a "
                    "later one with a picture; see data.min_likes, data.windows and data.shares",
                    self.name, ", ".join(empty), self.windows.history,
                )  # fmt: skip
        return {name: fact for name, fact in facts.items() if fact}

    @cached_property
    def item(self) -> dict[str, Item]:
        """Items by id."""
        return {row["id"]: as_item(row) for row in self.items.to_dict("records")}

    def users(self, split: str | None = None) -> Iterator[Timeline]:
        """Yields the users of a split, or of all, with enough likes, in the order of their ids."""
        for index, end in enumerate(self._ends):
            user = self._columns[0][end - 1]
            if split is None or split_by_hash(self.shares, self.seed, "user", user) == split:
                timeline = self._timeline(index)
                if len(timeline.liked) >= self.min_likes:
                    yield timeline

    def _cut(self, index: int, has_image: Callable[[Item], bool]) -> list[tuple[Example, int]]:
        """Returns what `Windows.cut` yields for the user at a place in the table; nothing without enough likes."""
        timeline = self._timeline(index)
        if len(timeline.liked) < self.min_likes:
            return []
        return list(self.windows.cut(timeline.user, timeline.interactions, has_image))

    def _timeline(self, index: int) -> Timeline:
        """Returns the user at a place in the table, whose rows are together."""
        rows = slice(self._ends[index - 1] if index else 0, self._ends[index])
        columns = [column[rows].tolist() for column in self._columns]
        return Timeline(columns[0][0], self._interactions(zip(*columns, strict=True)))

    def _interactions(self, rows: Iterable[tuple[str, str, str, float, int]]) -> tuple[Interaction, ...]:
        """Returns the last thing that a user did with each item, oldest first; at one time, what they rated last.

        Who looks at a thing, orders it and sends it back doesn't like it twice; a rating that says neither takes an
        earlier one back.
        """
        ordered = sorted(rows, key=lambda row: (row[4], not math.isnan(row[3])))
        last: dict[str, Interaction] = {}
        for _, item, action, rating, time in ordered:
            interaction = self.feedback.read(self.item[item], action, rating, time)
            if interaction or not math.isnan(rating):
                last.pop(item, None)
            if interaction:
                last[item] = interaction
        return tuple(last.values())

    def timelines(self, split: str) -> list[Timeline]:
        """Returns the users of a split; PmgError if there is no such split.

        A hash of the id decides, so that no user moves when others come or go.
        """
        check_split(split, None, self.shares)
        return list(self.users(split))


def as_item(row: Mapping) -> Item:
    """Returns a row of the items' table as an item."""
    return Item(row["id"], row["concept"], row["title"], tuple(row["keywords"]), row["topic"], row["facts"])


def cut_later(timelines: Sequence[Timeline], first: int, least_later: int) -> list[Example]:
    """Returns an example of each user: their first likes as history, the next like as target, all later ones as truth.

    Users with fewer later likes than `least_later` are left out.
    """
    return [
        Example(timeline.user, timeline.user, timeline.until(first), later[0], later)
        for timeline in timelines
        if len(later := timeline.liked[first:]) >= least_later
    ]
