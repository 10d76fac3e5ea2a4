"""The emoji data set: catalogue, tastes, held-out cells and simulated users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from pmg.data.dataset import Dataset, check_split, exclude_by_label
from pmg.data.emoji.catalogue import Catalogue, read_digest
from pmg.data.emoji.holdout import check_leaks, hold_out, training_items
from pmg.data.emoji.tastes import build_tastes
from pmg.data.emoji.users import CatalogueIndex, UserSimulation
from pmg.domain import Example, Item


class EmojiData(Dataset):
    """Emoji of ten artists, and simulated users whose tastes are labelled.

    Args:
        folder: catalogue folder.
        topics: Unicode subgroups to keep; None: all.
        styles: facts about each style, by its name.
        tastes: of users, by name.
        users: draws the users.
    """

    groups = ("kind",)
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
        self._catalogue = Catalogue.load(folder, styles, topics)
        self.held_out = hold_out(self.images.concepts, self.tastes, users.seed)

    @property
    def images(self) -> Catalogue:
        """The catalogue: items with their images."""
        return self._catalogue

    @cached_property
    def index(self) -> CatalogueIndex:
        """The catalogue by concept, style and topic."""
        return CatalogueIndex(self.images, self.held_out)

    @property
    def training_items(self) -> list[Item]:
        """Items whose images training may use."""
        return training_items(self.images.items, self.images.style, self.held_out)

    @property
    def held_out_items(self) -> list[Item]:
        """Items whose images no training uses."""
        seen = {item.id for item in self.training_items}
        return [item for item in self.images.items if item.id not in seen]

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the examples of a split, checked for leaks.

        Args:
            split: ``train``, ``validation`` or ``test``.
            users: the first so many users; None: all.
            targets: the first so many examples of each user; None: all.

        Raises:
            PmgError: there is no such split, it has fewer users, or it leaks.
        """
        check_split(split, users, self.users.sizes)
        examples = self.users.split(split, self.index, self.tastes, users, targets)
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
