"""The data set of looks: users who like artists under finishes, and pictures that are drawn when they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count

import torch
from torch import Tensor

from pmg.configuration.ranges import NotNegative, Seed
from pmg.data.dataset import Dataset, check_split
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.looks.drawings import Drawings, LookData
from pmg.looks.finish_space import FinishSpace, traits
from pmg.looks.finishes import AS_DRAWN, decode_finish, encode_finish
from pmg.looks.users import DrawnBy, LookSample, LookUsers, Picture, check_look_leaks
from pmg.seeding import stable_number

SEPARATOR = "~"  # between a drawing's id and its finish, in the id of a picture


class FinishedImages:
    """An `ImageStore` of drawings under finishes: the id of an item determines its image.

    An id is that of a drawing, alone (as drawn, on white) or with an encoded finish behind a tilde.
    """

    def __init__(self, drawings: Drawings) -> None:
        self.drawings = drawings
        self._row_of = {item.id: row for row, item in enumerate(drawings.items)}
        self._index: dict[str, int] = {}  # row number by item id; numbers are given when an item is first read
        self._pictures: list[Picture] = []

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.drawings.size

    def item(self, picture: Picture) -> Item:
        """Returns a picture as an item: that of its drawing, under an id of its own."""
        item = self.drawings.items[picture.row]
        name = f"{item.id}{SEPARATOR}{encode_finish(picture.finish)}"
        return Item(name, item.concept, item.title, item.keywords, item.topic, item.facts)

    def picture(self, item: Item) -> Picture:
        """Returns the drawing and the finish of an item; PmgError if it is no drawing."""
        return self._pictures[self._number(item.id)]

    def has(self, item: Item) -> bool:
        """Returns whether the item's id is that of a drawing, alone or with a finish."""
        return self._parse(item.id) is not None

    def rows(self, items: Iterable[Item]) -> Tensor:
        """Returns the row numbers of items, int64 `(B,)`; PmgError if one of them is no drawing."""
        return torch.tensor([self._number(item.id) for item in items], dtype=torch.int64)

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns finished pictures, float32 in [-1, 1], `(B, 3, H, W)`."""
        pictures = [self._pictures[row] for row in rows.tolist()]
        drawn = torch.tensor([picture.row for picture in pictures], dtype=torch.int64)
        return self.drawings.pictures(drawn, [picture.finish for picture in pictures])

    def _number(self, name: str) -> int:
        if name not in self._index:
            picture = self._parse(name)
            if picture is None:
                raise PmgError(f"item '{name}' is no drawing of the catalogue: use items of its examples")
            self._index[name] = len(self._pictures)
            self._pictures.append(picture)
        return self._index[name]

    def _parse(self, name: str) -> Picture | None:
        drawing, _, code = name.partition(SEPARATOR)
        if drawing not in self._row_of:
            return None
        try:
            return Picture(self._row_of[drawing], decode_finish(code) if code else AS_DRAWN)
        except ValueError:
            return None


class LookDataset(LookData, Dataset):
    """Simulated users who like looks. Results are split by whether training saw the look, and by how many they like.

    `users` draws them; `drawn_by` is of `LookUsers.samples`, and further arguments are those of `LookData`.
    """

    groups = ("group", "looks")
    taste_label = "look"

    def __init__(
        self, folder: str, topics: Sequence[str] | None, space: FinishSpace, unseen_artists: Sequence[str], seed: Seed,
        users: LookUsers, *, group_spread: NotNegative = 0.02, drawn_by: DrawnBy = "own",
    ) -> None:  # fmt: skip
        super().__init__(folder, topics, space, unseen_artists, seed, group_spread=group_spread)
        self.users, self.drawn_by = users, drawn_by

    @cached_property
    def images(self) -> FinishedImages:
        """The drawings under the finishes of histories and truths."""
        return FinishedImages(self.drawings)

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the examples of a split, checked for leaks; arguments and errors as `Dataset.examples`.

        Labels: ``group`` (``met``: looks that training may see, ``unseen_region``, ``unseen_artist``), ``looks`` (how
        many the user likes), ``look`` (names the one that they like most) and ``look_references`` (ids of pictures of
        other concepts that show it exactly). A leak is a PmgError.
        """
        check_split(split, users, self.users.sizes)
        samples = self.users.samples(self, split, users, targets, self.drawn_by)
        check_look_leaks(self, samples, split)
        numbers: defaultdict[str, Iterator[int]] = defaultdict(count)
        return [self._example(sample, next(numbers[sample.user])) for sample in samples]

    def _example(self, sample: LookSample, number: int) -> Example:
        item = self.images.item
        history = tuple(Interaction(item(picture), "sent", time) for time, picture in enumerate(sample.history))
        truth = tuple(item(picture) for picture in sample.truth)
        artist, finish = sample.taste.looks[0]
        digits = stable_number(encode_finish(finish)) % 10_000  # distinguish similar looks
        labels = {
            "group": sample.taste.group,
            "looks": str(len(sample.taste.looks)),
            "look": f"{artist}: {', '.join(sorted(traits(finish)))} ({digits:04d})",
            "look_references": " ".join(item(picture).id for picture in sample.references),
        }
        return Example(f"{sample.user}-{number}", sample.user, history, truth[0], truth, labels)
