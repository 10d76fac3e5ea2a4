"""Questions of the embedded world: draw a held-out concept in a look, with the true picture as the answer."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.data.emoji.drawings import LookData
from pmg.data.emoji.finishes import Finish
from pmg.data.emoji.look_choice import LookChoice
from pmg.seeding import stable_number

GROUPS = ("met", "unseen_region", "unseen_artist")
REFERENCES = 4  # real drawings of other concepts that show the look to the oracle


@dataclass(frozen=True)
class LookQuestion:
    """One concept to draw in one look.

    Attributes:
        row: of the true drawing.
        finish: of the look's centre.
        group: ``met`` (a held-out cell of a seen artist under a seen finish), ``unseen_region`` (the same under an
            unseen finish) or ``unseen_artist``.
        references: rows of other concepts by the same artist.
        seed: of everything random about the question.
    """

    row: int
    finish: Finish
    group: str
    references: tuple[int, ...]
    seed: int


def draw_questions(data: LookData, split: str, group: str, count: int, seed: int = 0) -> list[LookQuestion]:
    """Returns questions of a group; the same ones for the same seed, the first ones of any larger number.

    Args:
        data: drawings and the space of finishes.
        split: ``validation`` or ``test``: whose held-out cells.
        group: see `LookQuestion`.
        count: how many.
        seed: another one gives other questions.
    """
    if group == "unseen_artist":
        cells = [row for row in data.rows("unseen_artists").tolist() if data.cells.split(_concept(data, row)) == split]
    else:
        cells = data.rows(split).tolist()
    shown = data.rows_by_artist("train", "unseen_artists")
    return [_question(data, cells, shown, group, stable_number(seed, split, group, number)) for number in range(count)]


def _question(data: LookData, cells: list[int], shown: dict[str, list[int]], group: str, seed: int) -> LookQuestion:
    rng = random.Random(seed)
    row = rng.choice(cells)
    finish = data.space.sample(rng, seen=group != "unseen_region")
    others = [other for other in shown[data.drawings.artists[row]] if _concept(data, other) != _concept(data, row)]
    return LookQuestion(row, finish, group, tuple(rng.sample(others, REFERENCES)), seed % 2**31)


def _concept(data: LookData, row: int) -> str:
    return data.drawings.items[row].concept


def true_pictures(data: LookData, questions: list[LookQuestion]) -> Tensor:
    """Returns the answers, `(B, 3, H, W)` in [-1, 1]."""
    rows = torch.tensor([question.row for question in questions])
    return data.drawings.pictures(rows, [question.finish for question in questions])


def reference_pictures(data: LookData, questions: list[LookQuestion]) -> Tensor:
    """Returns real drawings of other concepts at each look's centre, `(B, REFERENCES, 3, H, W)` in [-1, 1]."""
    rows = torch.tensor([row for question in questions for row in question.references])
    finishes = [question.finish for question in questions for _ in question.references]
    return data.drawings.pictures(rows, finishes).unflatten(0, (-1, REFERENCES))


def candidate_pictures(choice: LookChoice, question: LookQuestion) -> Tensor:
    """Returns pictures of ten looks, the true one first, `(CANDIDATES * REFERENCES, 3, H, W)`."""
    data, rng = choice.data, random.Random(question.seed)
    look = (data.drawings.artists[question.row], question.finish)
    return choice.references(choice.candidates(look, rng), _concept(data, question.row), rng)
