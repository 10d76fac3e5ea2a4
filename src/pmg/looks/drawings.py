"""Drawings with transparency, by concept and artist, pictures of them under finishes, and rivals of such a look."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pmg.configuration.ranges import NotNegative, Seed
from pmg.data.picture_groups import mirror_half
from pmg.domain import Item, PmgError
from pmg.looks.catalogue import TABLE, decode, read_rows
from pmg.looks.finish_space import FinishSpace
from pmg.looks.finishes import Finish, FinishBatch, apply_finishes
from pmg.seeding import stable_number

GROUPS = ("met", "unseen_region", "unseen_artist")  # of looks that models are tested on
REFERENCES = 4  # drawings of other concepts that show a look
SAME_ARTIST, SAME_FINISH, OTHER = 3, 3, 3  # rivals of a look, of each kind
CANDIDATES = 1 + SAME_ARTIST + SAME_FINISH + OTHER

Look = tuple[str, Finish]


class Drawings:
    """Items, who drew each, and their drawings in the same order: red, green, blue, alpha, uint8 `(N, 4, H, W)`."""

    def __init__(self, items: Sequence[Item], artists: Sequence[str], pixels: Tensor) -> None:
        self.items, self.artists, self.pixels = list(items), list(artists), pixels
        self.row = {
            (item.concept, artist): number for number, (item, artist) in enumerate(zip(items, artists, strict=True))
        }

    @classmethod
    def load(cls, folder: str, topics: Sequence[str] | None = None) -> Drawings:
        """Reads the drawings of a catalogue folder, see `read_rows`; PmgError, too, if an image can't be read."""
        rows = read_rows(folder, topics)
        pixels = np.stack([decode(row["image"], Path(folder, TABLE), row["id"], "RGBA") for row in rows])
        items = [Item(r["id"], r["concept"], r["title"], tuple(r["keywords"]), r["subgroup"], {}) for r in rows]
        return cls(items, [row["style"] for row in rows], torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())

    def __len__(self) -> int:
        return len(self.items)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.pixels.shape[-1]

    @cached_property
    def concepts(self) -> list[str]:
        """All concepts, sorted."""
        return sorted({item.concept for item in self.items})

    def pictures(self, rows: Tensor, finishes: Sequence[Finish]) -> Tensor:
        """Returns finished pictures of `rows`, float32 in [-1, 1], `(B, 3, H, W)`."""
        return apply_finishes(self.pixels[rows], FinishBatch.stack(finishes)) * 2 - 1


def has_colours(pixels: Tensor) -> Tensor:
    """Returns which drawings, uint8 `(N, 4, H, W)`, have colours at all, bool `(N,)`."""
    chroma = pixels[:, :3].amax(1).int() - pixels[:, :3].amin(1).int()
    return ((chroma > 40) & (pixels[:, 3] > 128)).flatten(1).float().mean(1) > 0.02


class HeldOutCells:
    """One (concept, artist) cell of each concept that no training sees; a quarter of them for validation.

    The choice follows a hash of seed and concept: which concepts a configuration uses does not move a cell.
    """

    def __init__(self, artists: Sequence[str], seed: int) -> None:
        self.artists, self.seed = artists, seed

    def artist(self, concept: str) -> str:
        """Returns the artist whose drawing of `concept` is held out."""
        return self.artists[stable_number(self.seed, "artist", concept) % len(self.artists)]

    def split(self, concept: str) -> str:
        """Returns ``validation`` or ``test``: which of the two uses the concept's cell."""
        return "validation" if stable_number(self.seed, "validation", concept) % 1000 < 250 else "test"


class FinishedDrawings:
    """Some `rows` `(N,)` of the drawings, each time under a new random finish or as drawn: a `PictureSource`."""

    def __init__(self, drawings: Drawings, rows: Tensor, space: FinishSpace, as_drawn: float = 0.05) -> None:
        self.drawings, self.rows, self.space, self.as_drawn = drawings, rows, space, as_drawn

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Returns pictures of `rows`, half of them mirrored, float32 in [-1, 1], `(B, 3, H, W)`."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        finishes = [Finish() if chance.random() < self.as_drawn else self.space.sample(chance) for _ in rows]
        return mirror_half(self.drawings.pictures(self.rows[rows], finishes), rng)


class LookData:
    """The drawings of a catalogue's folder, the space of finishes, and what training never sees of both.

    Subgroups `topics` are kept; None: all. No training sees `unseen_artists`, except the judge's; `seed` is that of
    the held-out cells. `group_spread` is that of the finishes in a group of pictures of one look, as a share of each
    parameter's range.
    """

    def __init__(
        self, folder: str, topics: Sequence[str] | None, space: FinishSpace, unseen_artists: Sequence[str], seed: Seed,
        *, group_spread: NotNegative = 0.02,
    ) -> None:  # fmt: skip
        self.folder, self.group_spread = folder, group_spread
        self.drawings, self.space = Drawings.load(folder, topics), space
        self.unseen_artists = frozenset(unseen_artists)
        artists = set(self.drawings.artists)
        if not self.unseen_artists < artists:
            raise PmgError(f"data.unseen_artists: {sorted(self.unseen_artists - artists)} drew nothing in {folder}")
        self.cells = HeldOutCells(sorted(artists - self.unseen_artists), seed)

    def rows(self, split: str) -> Tensor:
        """Returns the rows of drawings of a split, int64 `(N,)`.

        `split`: ``train`` (everything that training may see), ``validation`` or ``test`` (held-out cells of seen
        artists), or ``unseen_artists``.
        """
        return torch.tensor([row for row, own in enumerate(self.splits) if own == split])

    @property
    def picture_items(self) -> list[Item]:
        """The item of each row."""
        return self.drawings.items

    def draw_pictures(self, rows: Tensor, rng: random.Random) -> Tensor:
        """Returns pictures of rows `(B,)`, each under a random finish that training may see, `(B, 3, H, W)`."""
        return self.drawings.pictures(rows, [self.space.sample(rng) for _ in rows])

    def draw_group(self, split: str, size: int, rng: random.Random) -> tuple[list[int], Tensor]:
        """Returns rows and pictures of different concepts by one artist near one finish, see `PictureGroups`."""
        by_artist = {name: self._artist_rows[name] for name in ("train", split)}
        artist = rng.choice(sorted(by_artist[split]))
        centre = self.space.sample(rng)
        first = rng.choice(by_artist[split][artist])
        others = rng.sample([row for row in by_artist["train"][artist] if row != first], size - 1)
        rows = [first, *others]
        finishes = [self.space.vary(centre, rng, self.group_spread) for _ in rows]
        return rows, self.drawings.pictures(torch.tensor(rows), finishes)

    @cached_property
    def _artist_rows(self) -> dict[str, dict[str, list[int]]]:
        return {split: self.rows_by_artist(split) for split in ("train", "validation", "test")}

    def rows_by_artist(self, *splits: str) -> dict[str, list[int]]:
        """Returns the rows of drawings of the splits, by artist."""
        rows: dict[str, list[int]] = {}
        for split in splits:
            for row in self.rows(split).tolist():
                rows.setdefault(self.drawings.artists[row], []).append(row)
        return rows

    @cached_property
    def splits(self) -> list[str]:
        """The split that the drawing of each row belongs to."""
        cells, unseen = self.cells, self.unseen_artists
        rows = zip((item.concept for item in self.drawings.items), self.drawings.artists, strict=True)
        own = [cells.split(concept) if cells.artist(concept) == artist else "train" for concept, artist in rows]
        return ["unseen_artists" if by in unseen else one for by, one in zip(self.drawings.artists, own, strict=True)]

    def picture_source(self, split: str) -> FinishedDrawings:
        """Returns the drawings of a split under finishes that training may see."""
        return FinishedDrawings(self.drawings, self.rows(split), self.space)


class LookChoice:
    """Draws the rivals of a look and the drawings that show each candidate, whose finishes have a `spread`."""

    def __init__(self, data: LookData, spread: float) -> None:
        self.data, self.spread = data, spread
        self.rows = data.rows_by_artist("train", "unseen_artists")

    def draw(self, row: int, finish: Finish, rng: random.Random) -> Tensor:
        """Returns pictures of ten looks, first that of a row and finish, `(CANDIDATES * REFERENCES, 3, H, W)`."""
        looks = self.candidates((self.data.drawings.artists[row], finish), rng)
        return self.references(looks, self.data.drawings.items[row].concept, rng)

    def candidates(self, look: Look, rng: random.Random) -> list[Look]:
        """Returns the look itself, then its rivals."""
        artist, finish = look
        others = rng.sample(sorted(set(self.rows) - {artist}), SAME_FINISH)
        seen = self.data.space.is_seen(finish)
        same_artist = [(artist, self.data.space.sample(rng, seen)) for _ in range(SAME_ARTIST)]
        rivals = [(rng.choice(sorted(self.rows)), self.data.space.sample(rng)) for _ in range(OTHER)]
        return [look, *same_artist, *((other, finish) for other in others), *rivals]

    def references(self, looks: list[Look], concept: str, rng: random.Random) -> Tensor:
        """Returns pictures that show each look, none of `concept`, `(len(looks) * REFERENCES, 3, H, W)`."""
        rows, finishes = [], []
        for artist, finish in looks:
            rows += rng.sample(
                [r for r in self.rows[artist] if self.data.drawings.items[r].concept != concept], REFERENCES
            )
            finishes += [self.data.space.vary(finish, rng, self.spread) for _ in range(REFERENCES)]
        return self.data.drawings.pictures(torch.tensor(rows), finishes)


@dataclass(frozen=True)
class LookTarget:
    """One concept to generate in one look."""

    row: int  # of the true drawing
    finish: Finish  # of the look's centre
    references: tuple[int, ...]  # rows of other concepts by the same artist
    seed: int  # of all that is random about the target
