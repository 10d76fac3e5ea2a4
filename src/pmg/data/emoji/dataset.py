"""The emoji data set: catalogue, tastes, held-out cells and simulated users, built from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from pmg.data.dataset import Dataset, check_split, exclude_by_label
from pmg.data.emoji.catalogue import Catalogue, read_digest
from pmg.data.emoji.holdout import check_leaks, hold_out, training_items
from pmg.data.emoji.tastes import build_tastes, check_tastes
from pmg.data.emoji.users import Shelf, UserSimulation
from pmg.domain import Example, Item


class EmojiData(Dataset):
    """Emoji of ten artists, and simulated users with a known taste each.

    Args:
        folder: catalogue folder.
        topics: subgroups to keep, or all.
        styles: what words can say about each style.
        tastes: what users can like, by name.
        users: draws the users.
    """

    groups = ("kind", "taste")
    taste_label = "taste"

    def __init__(
        self,
        folder: str,
        topics: Sequence[str] | None,
        styles: Mapping[str, Mapping[str, str]],
        tastes: Mapping[str, Mapping],
        users: UserSimulation,
    ) -> None:
        self.folder, self.styles, self.users = folder, styles, users
        self.tastes = build_tastes(tastes, styles)
        check_tastes(self.tastes, list(styles))
        self._catalogue = Catalogue.load(folder, styles, topics)
        self.held_out = hold_out(self.images.concepts, self.tastes, users.seed)

    @property
    def images(self) -> Catalogue:
        """The catalogue: items with their images."""
        return self._catalogue

    @cached_property
    def shelf(self) -> Shelf:
        """The catalogue sorted for drawing users."""
        return Shelf(self.images, self.held_out)

    @property
    def training_items(self) -> list[Item]:
        """Drawings that training stages may see."""
        return training_items(self.images.items, self.images.style, self.held_out)

    @property
    def held_out_items(self) -> list[Item]:
        """Drawings that no training stage sees."""
        seen = {item.id for item in self.training_items}
        return [item for item in self.images.items if item.id not in seen]

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Examples of a split, checked for leaks.

        Args:
            split: ``train``, ``validation`` or ``test``.
            users: keep the first so many users, or all.
            targets: keep the first so many targets of each user, or all.

        Raises:
            PmgError: the split is unknown or smaller than asked for, or it leaks.
        """
        check_split(split, users, self.users.sizes)
        examples = self.users.split(split, self.shelf, self.tastes, users, targets)
        check_leaks({split: examples}, self.images.style, self.held_out)
        return examples

    def exclude(self, examples: Sequence[Example], tastes: Sequence[str]) -> list[Example]:
        """Returns the examples of users who have none of `tastes`.

        Raises:
            PmgError: one of them is no name of a taste.
        """
        return exclude_by_label(examples, "taste", tastes, [taste.name for taste in self.tastes])

    @property
    def identity(self) -> str:
        """The checksum of the catalogue's file."""
        return read_digest(self.folder)
