"""The balance of accuracy and preference: which weights are tried, and which candidate is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pmg.configuration.ranges import Cosine, NotNegative, Repeats
from pmg.domain import PmgError
from pmg.seeding import stable_number

SMALLEST_COSINE = 1e-3  # a cosine of zero or less has no logarithm
Point = tuple[float, float]  # (d_p, d_t), both better when larger


class Weights(Protocol):
    """The candidates of every image."""

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """All C candidates as (w_p, w_t), never empty; a pair that is repeated is drawn from another noise."""

    @property
    def stop_at(self) -> float | None:
        """Accuracy score d_t from which no further noise is drawn for an image; None: all are drawn."""


@dataclass(frozen=True)
class WeightGrid:
    """Every pair of a preference weight and a target weight that is generated for a user.

    PmgError if a list is empty, or holds a negative or infinite weight or one weight twice.
    """

    preference: Sequence[NotNegative]  # weights w_p of the preference block, each at least 0
    target: Sequence[NotNegative] = (1.0,)  # weights w_t of the target block, each at least 0
    noises: Repeats = 1  # that each pair is drawn from; a larger number keeps the candidates of a smaller one
    stop_at: Cosine | None = None  # see `Weights`

    def __post_init__(self) -> None:
        for name, weights in (("preference", self.preference), ("target", self.target)):
            if not weights or not all(0 <= weight < math.inf for weight in weights):
                raise PmgError(f"balance.weights.{name} needs numbers of at least 0, got {list(weights)}")
            if len(set(weights)) < len(weights):
                raise PmgError(f"balance.weights.{name} holds a weight twice: {list(weights)}")

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """All C candidates as (w_p, w_t), noise by noise, preference weight by preference weight."""
        return [(float(w_p), float(w_t)) for w_p in self.preference for w_t in self.target] * self.noises


def noise_seeds(seed: int, pairs: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the seed of each candidate's noise: `seed`, and another one for each repetition of a pair."""
    repetitions = [pairs[:place].count(pair) for place, pair in enumerate(pairs)]
    return [stable_number("candidate", seed, number) % 2**63 if number else seed for number in repetitions]


class Combination(Protocol):
    """Combines the scores of a candidate into z; the candidate with the largest z is kept."""

    def __call__(self, d_p: Tensor, d_t: Tensor, alpha: float | Tensor) -> Tensor:
        """Returns z in the scores' shape; ValueError if an alpha is out of [0, 1].

        The scores d_p (cosine of image and preference keywords) and d_t (of image and target keywords) are of one
        shape, e.g. `(B, C)`. `alpha`, the share of d_p, is a number, or one a user in a fitting shape, e.g. `(B, 1)`.
        """


@dataclass(frozen=True)
class WeightedScores:
    """alpha log d_p + (1 - alpha) log d_t, as in the paper, where scores below `SMALLEST_COSINE` count as that.

    Without `logarithms` it is alpha d_p + (1 - alpha) d_t: a high score makes up for a low one.
    """

    logarithms: bool = True

    def __call__(self, d_p: Tensor, d_t: Tensor, alpha: float | Tensor) -> Tensor:
        """Returns z, see `Combination`."""
        shares = torch.as_tensor(alpha)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        if self.logarithms:
            d_p, d_t = (scores.float().clamp(min=SMALLEST_COSINE).log() for scores in (d_p, d_t))
        return alpha * d_p + (1 - alpha) * d_t


def pick(z: Tensor) -> Tensor:
    """Index of the best candidate of each user, int64 `(B,)`, from z `(B, C)`; the first one of equals.

    ValueError if a z is not a number.
    """
    if torch.isnan(z).any():
        raise ValueError("a z is not a number: the scorer gave a broken score")
    best = z == z.max(dim=1, keepdim=True).values
    return best.int().argmax(dim=1)  # of a 0/1 tensor argmax gives the first maximum on every device


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Returns the indices of the non-dominated points, in their order; of equal points the first.

    For any alpha they include a candidate with the highest z of `WeightedScores`, which never falls as a score rises.
    `pick` may return another one of equal z: with logarithms, all scores below `SMALLEST_COSINE` count alike.
    """
    front: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda place: (-points[place][0], -points[place][1], place)):
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return tuple(sorted(front))
