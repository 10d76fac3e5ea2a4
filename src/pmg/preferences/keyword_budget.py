"""Keeps keywords within what the text encoder reads; nothing is cut silently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pmg.domain import Keywords, PmgError
from pmg.models.diffusion.interfaces import ALLOW_MORE
from pmg.preferences.keywords import scored


def fit_keywords(keywords: Keywords, count_tokens: Callable[[str], int], limit: int) -> Keywords:
    """Drops the keywords of least weight until the rest can be read whole.

    First go words that are too long by themselves, then the lowest score, of equal scores the later word.

    Args:
        keywords: a block in words; its scores are the weights.
        count_tokens: length of a text in tokens, special tokens included.
        limit: longest text.

    Returns:
        The kept keywords in their order; `dropped` names the others, first dropped first.

    Raises:
        PmgError: no keyword fits.
    """
    pairs = scored(keywords)
    dropped = [pair for pair in pairs if count_tokens(pair[0]) > limit]
    kept = [pair for pair in pairs if pair not in dropped]
    while kept and count_tokens(", ".join(word for word, _ in kept)) > limit:
        # of equals `min` takes the first, so look from the end
        weakest = min(range(len(kept) - 1, -1, -1), key=lambda place: kept[place][1])
        dropped.append(kept.pop(weakest))
    if dropped and not kept:
        raise PmgError(
            f"none of the keywords '{keywords}' fits into the {limit} tokens that the text encoder reads; "
            f"shorten them, or {ALLOW_MORE}"
        )
    return Keywords(
        tuple(word for word, _ in kept),
        tuple(score for _, score in kept) if keywords.scores else (),
        (*keywords.dropped, *(word for word, _ in dropped)),
    )


@dataclass(frozen=True)
class Budget:
    """A text encoder's measure: how it counts, and how much it reads.

    Attributes:
        count_tokens: length of a text in tokens, special tokens included.
        limit: longest text.
    """

    count_tokens: Callable[[str], int]
    limit: int

    def fit(self, keywords: Keywords) -> Keywords:
        """See `fit_keywords`."""
        return fit_keywords(keywords, self.count_tokens, self.limit)
