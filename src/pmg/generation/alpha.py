"""Each user's own share of the preference in z, from what is known of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from pmg.configuration.ranges import Positive, Share
from pmg.domain import Keywords, PmgError


class AlphaRule(Protocol):
    """From what is known of a user to their alpha; pure."""

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Alpha in [0, 1] of a user with these preference keywords and so many behaviours."""
        ...


@dataclass(frozen=True)
class FixedAlpha:
    """The same for everybody.

    Attributes:
        alpha: in [0, 1].

    Raises:
        PmgError: alpha is out of range.
    """

    alpha: Share

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise PmgError(f"balance.alpha must be in [0, 1], got {self.alpha}")

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Alpha."""
        return self.alpha


@dataclass(frozen=True)
class ConfidentAlpha(FixedAlpha):
    """Grows with the mean probability of the keywords: what the model guessed should count for little.

    Scores are log-probabilities; keywords without any score (counted, or known) are certain.

    Attributes:
        alpha: of a user whose keywords are certain, in [0, 1].
    """

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Alpha times the mean probability, 0 without keywords."""
        if not keywords.words:
            return 0.0
        return self.alpha * fmean(math.exp(min(score, 0.0)) for score in keywords.scores or [0.0])


@dataclass(frozen=True)
class HistoryAlpha(FixedAlpha):
    """Grows with the history's length n as n / (n + half), the credibility of n observations (Bühlmann 1967).

    Attributes:
        alpha: of a user with an endless history, in [0, 1].
        half: length at which half of it is reached, above 0.

    Raises:
        PmgError: a value is out of range.
    """

    half: Positive = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.half < math.inf:
            raise PmgError(f"balance.alpha_rule.half must be a number above 0, got {self.half}")

    def __call__(self, keywords: Keywords, history: int) -> float:
        """Alpha times the history's credibility."""
        return self.alpha * history / (history + self.half)
