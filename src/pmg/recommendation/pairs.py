"""The data set of pairs of users and items that were recommended to them, whose pictures `pmg-generate` makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pmg.cache import atomic_write_json
from pmg.configuration.ranges import Count
from pmg.data.dataset import Dataset, ImageStore, check_split
from pmg.domain import Example, Interaction, Item, PmgError

CANDIDATES = "candidates.json"
EVERYBODY = "everybody"  # in the place of a user's id, with what most users like as history


@dataclass(frozen=True)
class Candidates:
    """What is recommended to a user: ids of `items`, best first, with the recommender's `scores`.

    `history` has those that they liked, oldest first, `later` those that are to be foreseen; `items` may lack some.
    """

    history: Sequence[str]
    items: Sequence[str]
    scores: Sequence[float]
    later: Sequence[str]


def write_candidates(folder: Path, found: Mapping[str, Candidates]) -> None:
    """Writes the candidates of users into a run's folder."""
    atomic_write_json(folder / CANDIDATES, {user: asdict(one) for user, one in found.items()})


def read_candidates(file: str | Path) -> dict[str, Candidates]:
    """Returns what `write_candidates` wrote, by user; PmgError if it is missing or damaged."""
    try:
        return {user: Candidates(**values) for user, values in json.loads(Path(file).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        what = f"data.file names the {CANDIDATES} of a run of pmg-recommend, pictures.candidates its folder"
        raise PmgError(f"{file} can't be read ({type(error).__name__}): {what}") from None


class PairData(Dataset):
    """Pairs of users and the items that a run of `pmg-recommend` recommends to them; all are of the split ``test``.

    The true image of a pair is the item's own: a picture that a user may like as it is. The user `EVERYBODY` likes
    what most users like, and is paired with all items. `of` is the data set of the run, `file` what it recommends; the
    latest `history` likes of a user are read.
    """

    def __init__(self, of: Dataset, file: str, history: Count) -> None:
        self.of, self.history, self.file = of, history, file

    @property
    def images(self) -> ImageStore:
        """The images of the items."""
        return self.of.images

    @cached_property
    def items(self) -> dict[str, Item]:
        """All items that a user liked, by id."""
        lines = (line for split in ("train", "validation", "test") for line in self.of.timelines(split))
        return {item.id: item for line in lines for item in line.liked}

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the pairs, user by user, see `Dataset.examples`; PmgError for another split than ``test``.

        PmgError too if the run's items are not those of the data set.
        """
        found = read_candidates(self.file)
        check_split(split, users, {"test": len(found)})
        pairs = []
        for user, one in list(found.items())[:users]:
            liked = tuple(Interaction(self._item(name), timestamp=time) for time, name in enumerate(one.history))
            for row, target in enumerate(map(self._item, one.items[:targets])):
                pairs.append(Example(f"{user}-{row}", user, liked[-self.history :], target, (target,)))
        return pairs

    def _item(self, name: str) -> Item:
        if name not in self.items:
            raise PmgError(f"data.of has no item '{name}', which {self.file} recommends. Name the data of that run")
        return self.items[name]
