"""Rules for alpha, the weight of the preference score in z, by user."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from pmg.configuration.ranges import Fraction, Positive
from pmg.domain import Keywords


class AlphaRule(Protocol):
    """Computes a user's alpha; a pure function."""

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Returns alpha in [0, 1] for preference keywords and the number of interactions in the history."""


@dataclass(frozen=True)
class FixedAlpha:
    """The same alpha, in [0, 1], for all users."""

    alpha: Fraction

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Returns alpha."""
        return self.alpha


@dataclass(frozen=True)
class ConfidentAlpha(FixedAlpha):
    """Alpha times the mean probability of the keywords, so that uncertain ones count little in the selection.

    Scores are log-probabilities; keywords without scores (counted, or the true taste) have probability 1. `alpha` is
    the value for probability 1, in [0, 1].
    """

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Returns alpha times the mean probability; without keywords, alpha."""
        return self.alpha * fmean(math.exp(min(score, 0.0)) for score in keywords.scores or [0.0])


@dataclass(frozen=True)
class HistoryAlpha(FixedAlpha):
    """Alpha times n / (n + half) for n interactions, the credibility of n observations (Bühlmann 1967).

    `alpha`, in [0, 1], is the limit for long histories, half of which is reached at the length `half`, above 0.
    """

    half: Positive = 4.0

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Returns alpha times the history's credibility."""
        return self.alpha * history / (history + self.half)
