"""The interface of a data set: what every command needs of it (docs/extending.md has a worked example)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pmg.configuration.instantiate import nearest
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.models.vision.pixels import from_uint8


class ImageStore(Protocol):
    """The images of a data set's items, read on demand."""

    @property
    def size(self) -> int:
        """Pixels a side."""

    def has(self, item: Item) -> bool:
        """Returns whether there is an image of `item`."""

    def rows(self, items: Iterable[Item]) -> Tensor:
        """Returns the row numbers of items, int64 `(B,)`; PmgError if one of them has no image."""

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the images of rows `(B,)`, float32 in [-1, 1], `(B, 3, size, size)`.

        PmgError if an image is missing or damaged.
        """


class ItemRows:
    """Base of an `ImageStore` whose rows are `items` in their order, one an image.

    `missing` is the format of the error for an item without an image, over ``{item}`` and ``{store}``.
    """

    missing = "item '{item.id}' has no image: use items of the data set"

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = list(items)
        self._row = {item.id: row for row, item in enumerate(self.items)}

    def has(self, item: Item) -> bool:
        """Returns whether there is an image of `item`."""
        return item.id in self._row

    def rows(self, items: Iterable[Item]) -> Tensor:
        """Returns the row numbers of items, int64 `(B,)`; PmgError if one of them has no image."""
        wanted = list(items)
        if absent := next((item for item in wanted if not self.has(item)), None):
            raise PmgError(self.missing.format(item=absent, store=self))
        return torch.tensor([self._row[item.id] for item in wanted], dtype=torch.int64)


class MemoryImages(ItemRows):
    """An `ImageStore` in memory: for data sets of some ten thousand small images.

    `uint8` has an image `(3, size, size)` for each of `items`, in their order. PmgError if the numbers of items and
    images differ, or the images are no such tensor.
    """

    def __init__(self, items: Sequence[Item], uint8: Tensor) -> None:
        count, found = len(items), f"{uint8.dtype}, {tuple(uint8.shape)}"
        if uint8.dtype != torch.uint8 or uint8.shape[:2] != (count, 3) or uint8.shape[2] != uint8.shape[3]:
            raise PmgError(f"images of {count} items: {found}. Give uint8 ({count}, 3, size, size)")
        super().__init__(items)
        self.uint8, self.size = uint8, uint8.shape[-1]

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the images of `rows` as float32 in [-1, 1], `(B, 3, size, size)`."""
        return from_uint8(self.uint8[rows])


def liked_with_image(images: ImageStore, example: Example) -> list[Item]:
    """Returns the items that an example's user liked and that have an image, oldest first; there may be none."""
    return [item for item in example.liked if images.has(item)]


def require_liked(images: ImageStore, example: Example, need: str) -> list[Item]:
    """Returns `liked_with_image`; PmgError if there is none, naming what has a `need` of it."""
    if not (found := liked_with_image(images, example)):
        raise PmgError(
            f"user {example.user} liked nothing that has a picture, which {need} needs; such users are for methods "
            "that read words: leave the others out, e.g. method=[none,keywords] or ~method.mean_style"
        )
    return found


def require_truth(example: Example) -> tuple[Item, ...]:
    """Returns the true images of an example; PmgError if there is none."""
    if not example.truth:
        raise PmgError(
            f"example '{example.id}' has no true image, which an evaluation compares with. Look at the images "
            "themselves, or let people judge them: pmg-survey (docs/survey.md)"
        )
    return example.truth


@dataclass(frozen=True, slots=True)
class Timeline:
    """The interaction history of one user: likes and dislikes, oldest first."""

    user: str
    interactions: tuple[Interaction, ...]

    @property
    def liked(self) -> tuple[Item, ...]:
        """The items that they liked, oldest first."""
        return tuple(interaction.item for interaction in self.interactions if interaction.liked)

    def until(self, likes: int) -> tuple[Interaction, ...]:
        """Returns the interactions up to the like of this number, counted from 1."""
        places = [place for place, interaction in enumerate(self.interactions) if interaction.liked]
        return self.interactions[: places[likes - 1] + 1]


class Dataset(Protocol):
    """Users with their histories, targets and images.

    A subclass has to define `images` and `examples`; it overrides the others where its data have more to offer.

    Attributes:
        groups: names of the labels by which results are split; `Example.labels` has a value for each of them.
        taste_label: name of the label that holds the user's taste; users with equal values like the same. None: tastes
            are not labelled, as of real users.
        has_truth: whether examples have true images, which images are compared with.
        pictures_of: the option of the config group ``data`` whose pictures these are, if it is another one.
    """

    groups: tuple[str, ...] = ()
    taste_label: str | None = None
    has_truth: bool = True
    pictures_of: str = ""

    @property
    def images(self) -> ImageStore:
        """The images of items; PmgError if the data set has none."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that rows of results hold: `groups` and `taste_label`."""
        return tuple(dict.fromkeys(filter(None, (*self.groups, self.taste_label))))

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> Sequence[Example]:
        """Returns the examples of a split, user by user; the same arguments give the same examples.

        PmgError if there is no such split, or it has fewer users.

        Args:
            split: ``train``, ``validation`` or ``test``; no two of them share an example.
            users: the first so many users; None: all.
            targets: the first so many examples of each user; None: all.
        """

    def timelines(self, split: str) -> list[Timeline]:
        """Returns the users of a split with all that they did, as ``pmg-keywords`` compares it.

        PmgError if there is no such split, or the data set has no interactions in time.
        """
        raise PmgError("this data set has no likes in time, which pmg-keywords compares: use data=movielens")


def check_split(split: str, users: int | None, sizes: Mapping[str, float]) -> None:
    """Checks the arguments of `Dataset.examples`; PmgError if there is no such split, or it has fewer users."""
    if split not in sizes:
        raise PmgError(f"data has no split '{split}'{nearest(split, sizes)} (known: {', '.join(sizes)})")
    if users is not None and users > sizes[split]:
        raise PmgError(
            f"split '{split}' has {sizes[split]} users, {users} were requested: lower split_sizes.{split} (null: all)"
        )
