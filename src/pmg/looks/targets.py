"""Targets of the embedded world: held-out concepts in looks, with their true pictures."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.looks.drawings import REFERENCES, LookData
from pmg.looks.finishes import Finish

SAME_ARTIST, SAME_FINISH, OTHER = 3, 3, 3  # rivals of each kind
CANDIDATES = 1 + SAME_ARTIST + SAME_FINISH + OTHER

Look = tuple[str, Finish]


class LookChoice:
    """Draws the rivals of a look and the drawings that show each candidate, whose finishes have a `spread`."""

    def __init__(self, data: LookData, spread: float) -> None:
        self.data, self.spread = data, spread
        self.rows = data.rows_by_artist("train", "unseen_artists")

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


def candidate_pictures(choice: LookChoice, target: LookTarget) -> Tensor:
    """Returns pictures of ten looks, the true one first, `(CANDIDATES * REFERENCES, 3, H, W)`."""
    data, rng = choice.data, random.Random(target.seed)
    look = (data.drawings.artists[target.row], target.finish)
    return choice.references(choice.candidates(look, rng), data.drawings.items[target.row].concept, rng)
