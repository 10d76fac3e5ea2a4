"""Simulated users who like looks: one or several, each a point with a spread, and a fifth of anything else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pmg.configuration.ranges import Count, Fraction, NotNegative, Seed
from pmg.domain import PmgError
from pmg.looks.drawings import GROUPS, REFERENCES, LookData
from pmg.looks.finishes import Finish
from pmg.seeding import stable_number

DrawnBy = Literal["own", "other"]


@dataclass(frozen=True)
class LookTaste:
    """What a user likes."""

    looks: tuple[tuple[str, Finish], ...]  # artist and centre of the finishes, the most liked first
    shares: tuple[float, ...]  # of the liked pictures, one a look; they sum to 1
    group: str  # ``met``, ``unseen_region`` or ``unseen_artist``


@dataclass(frozen=True)
class Picture:
    """A drawing under a finish."""

    row: int
    finish: Finish


@dataclass(frozen=True)
class LookSample:
    """One target of a user."""

    user: str  # their name
    taste: LookTaste  # what they like; no model may read it
    history: tuple[Picture, ...]  # what they used, oldest first
    target: int  # row of a drawing of the concept to draw, by the artist of the first look
    truth: tuple[Picture, ...]  # the target at the centre of each of their looks
    references: tuple[Picture, ...]  # other concepts at the centre of their first look, for the oracle alone


class LookUsers:
    """Draws users; each depends on the seed and their own number alone.

    Training users like looks that training may see. Validation and test users are drawn from three groups in turn:
    looks that training may see, finishes of unseen regions, unseen artists. Their targets are cells that no training
    sees, and validation and test share no concept. PmgError if the shortest history is longer than the longest.

    `train`, `validation` and `test` are numbers of users, `targets` that of a user; histories are counted in pictures.
    `noise` is the share of a history outside the taste, `several` that of users who like two or three looks, and
    `spread` that of the finishes around a look's centre, as a share of each parameter's range.
    """

    def __init__(
        self, train: Count, validation: Count, test: Count, targets: Count, min_history: Count, max_history: Count,
        *, noise: Fraction, several: Fraction, spread: NotNegative, seed: Seed,
    ) -> None:  # fmt: skip
        if min_history > max_history:
            raise PmgError(
                f"data.users.min_history must be at most data.users.max_history ({max_history}), got {min_history}"
            )
        self.sizes = {"train": train, "validation": validation, "test": test}
        self.targets, self.lengths, self.noise = targets, (min_history, max_history), noise
        self.several, self.spread, self.seed = several, spread, seed

    def samples(
        self, data: LookData, split: str, users: int | None = None, targets: int | None = None,
        drawn_by: DrawnBy = "own",
    ) -> list[LookSample]:  # fmt: skip
        """Returns the samples of a split, user by user: of the first so many users, and targets of each; None: all.

        `drawn_by` is who drew what users like in histories: ``own``, the artists of their looks, or, as a control,
        ``other``: for each of them another artist, with the same finishes. Targets and truths stay the same.
        """
        index = DrawingIndex(data)
        numbers = range(self.sizes[split] if users is None else users)
        found = (self._user(index, split, number, drawn_by) for number in numbers)
        return [sample for samples in found for sample in islice(samples, targets)]

    def _user(self, index: DrawingIndex, split: str, number: int, drawn_by: DrawnBy) -> Iterator[LookSample]:
        rng = random.Random(stable_number(self.seed, "look user", split, number))
        group = "met" if split == "train" else GROUPS[number % len(GROUPS)]
        taste = self._taste(index, group, rng)
        targets = index.choose_targets(split, taste, self.targets, rng)
        used = {index.concepts[row] for row in targets}
        history = self._history(index, taste, used, rng)
        if drawn_by == "other":
            other = random.Random(stable_number(self.seed, "other artist", split, number))
            history = index.redraw(history, taste, used, other)
        artist, finish = taste.looks[0]
        for target in targets:
            truth = index.truth(target, taste)
            references = tuple(Picture(index.choose(artist, used, rng), finish) for _ in range(REFERENCES))
            yield LookSample(f"{split}-{number:05d}", taste, history, target, truth, references)

    def _taste(self, index: DrawingIndex, group: str, rng: random.Random) -> LookTaste:
        count = rng.choice((2, 3)) if rng.random() < self.several else 1
        looks = tuple(index.sample_look(group, rng) for _ in range(count))
        weights = sorted((rng.uniform(0.5, 1.5) for _ in looks), reverse=True)
        return LookTaste(looks, tuple(weight / sum(weights) for weight in weights), group)

    def _history(
        self, index: DrawingIndex, taste: LookTaste, used: set[str], rng: random.Random
    ) -> tuple[Picture, ...]:
        length = rng.randint(*self.lengths)
        outside = min(sum(rng.random() < self.noise for _ in range(length)), (length - 1) // 3)
        used = set(used)
        history = []
        for number in range(length):
            if number < outside:
                artist, finish = index.sample_look("met", rng)
            else:
                artist, centre = rng.choices(taste.looks, weights=taste.shares)[0]
                finish = index.data.space.vary(centre, rng, self.spread)
            row = index.choose(artist, used, rng)
            used.add(index.concepts[row])
            history.append(Picture(row, finish))
        rng.shuffle(history)
        return tuple(history)


class DrawingIndex:
    """The drawings by split and artist, from which users' histories and targets are sampled; the concept of each."""

    def __init__(self, data: LookData) -> None:
        self.data = data
        splits = ("train", "validation", "test", "unseen_artists")
        self.rows = {split: data.rows_by_artist(split) for split in splits}
        self.concepts = [item.concept for item in data.drawings.items]

    def sample_look(self, group: str, rng: random.Random) -> tuple[str, Finish]:
        """Returns an artist and a finish of a group."""
        artists = self.rows["unseen_artists" if group == "unseen_artist" else "train"]
        return rng.choice(sorted(artists)), self.data.space.sample(rng, seen=group != "unseen_region")

    def choose_targets(self, split: str, taste: LookTaste, count: int, rng: random.Random) -> list[int]:
        """Returns rows of different concepts that are targets of the split, by the artist of the first look.

        PmgError if the catalogue's topics leave too few of them.
        """
        artist = taste.looks[0][0]
        rows = self._candidates(split, artist)
        if split == "train":  # every look must have its truth among what training may see
            rows = [row for row in rows if len(self.truth(row, taste)) == len(taste.looks)]
        if len(rows) < count:
            raise PmgError(
                f"data.topics leaves {len(rows)} {split} targets by {artist}, {count} are needed: add topics, or "
                "lower data.users.targets"
            )
        return rng.sample(rows, count)

    def _candidates(self, split: str, artist: str) -> list[int]:
        if artist in self.rows["unseen_artists"]:
            rows = self.rows["unseen_artists"][artist]
            return [row for row in rows if self.data.cells.split(self.concepts[row]) == split]
        return self.rows[split].get(artist, [])

    def truth(self, target: int, taste: LookTaste) -> tuple[Picture, ...]:
        """Returns the target at the centre of each look whose artist drew it; in training, of seen drawings alone."""
        concept, training = self.concepts[target], self.data.splits[target] == "train"
        rows = [(self.data.drawings.row.get((concept, artist)), finish) for artist, finish in taste.looks]
        return tuple(
            Picture(row, finish)
            for row, finish in rows
            if row is not None and (not training or self.data.splits[row] == "train")
        )

    def choose(self, artist: str, used: set[str], rng: random.Random) -> int:
        """Returns a drawing for a history: by `artist`, of a concept that is not in `used`, never a held-out cell.

        PmgError if `used` holds all that the artist drew.
        """
        split = "unseen_artists" if artist in self.rows["unseen_artists"] else "train"
        rows = [row for row in self.rows[split][artist] if self.concepts[row] not in used]
        if not rows:
            raise PmgError(
                f"data.topics leaves no drawing by {artist} for a history beside {len(used)} others: add topics, or "
                "lower data.users.max_history"
            )
        return rng.choice(rows)

    def redraw(
        self, history: Sequence[Picture], taste: LookTaste, used: set[str], rng: random.Random
    ) -> tuple[Picture, ...]:
        """Returns a history in which another artist drew what those of the taste had drawn, with the same finishes.

        Concepts stay where the other artist drew them and no training is kept from it; elsewhere they are others, and
        none that is in `used`.
        """
        own = {artist for artist, _ in taste.looks}
        others = sorted({*self.rows["train"], *self.rows["unseen_artists"]} - own)
        instead = {artist: rng.choice(others) for artist in sorted(own)}
        used = used | {self.concepts[picture.row] for picture in history}
        redrawn = []
        for picture in history:
            artist = instead.get(self.data.drawings.artists[picture.row])
            row = picture.row if artist is None else self._same_concept(picture.row, artist)
            if row is None:
                row = self.choose(str(artist), used, rng)
                used.add(self.concepts[row])
            redrawn.append(Picture(row, picture.finish))
        return tuple(redrawn)

    def _same_concept(self, row: int, artist: str) -> int | None:
        """Returns the artist's drawing of a drawing's concept, if there is one that histories may show."""
        found = self.data.drawings.row.get((self.concepts[row], artist))
        return found if found is not None and self.data.splits[found] in ("train", "unseen_artists") else None


def check_look_leaks(data: LookData, samples: Sequence[LookSample], split: str) -> None:
    """Checks that histories hold no held-out cell and not the target's concept, and that targets are of the split.

    Else a PmgError says what leaks.
    """
    items = data.drawings.items
    for sample in samples:
        target = items[sample.target]
        if target.concept in {items[picture.row].concept for picture in sample.history}:
            raise PmgError(f"leak: the target of {sample.user} is a concept of their history")
        for picture in sample.history:
            if data.splits[picture.row] in ("validation", "test"):
                drawing = items[picture.row].id
                raise PmgError(f"leak: the history of {sample.user} holds the held-out drawing {drawing}")
        found = data.splits[sample.target]
        if found == "unseen_artists":
            found = data.cells.split(target.concept)
        if found != split:
            raise PmgError(f"leak: {target.id}, a target of {sample.user} in '{split}', belongs to '{found}'")
