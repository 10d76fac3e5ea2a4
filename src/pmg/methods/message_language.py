"""Tells English messages from others."""

from __future__ import annotations

from functools import lru_cache

LANGUAGES = ("en", "de", "es", "fr", "it", "nl", "pl", "pt", "ru", "sv", "tr", "ar", "hi", "id", "ja", "ko", "zh")
"""Languages, by their codes, that are told apart."""
AHEAD = 9.0  # how much likelier another language has to be, in nats


def is_english(text: str) -> bool:
    """Returns whether a text may be English: no other language is far likelier, by its letters."""
    likelihoods = _rank(text)
    return likelihoods["en"] > max(likelihoods.values()) - AHEAD


@lru_cache(1024)
def _rank(text: str) -> dict[str, float]:
    """Returns the log-likelihood of a text in each of `LANGUAGES`."""
    from py3langid import rank

    return {language: float(value) for language, value in rank(text) if language in LANGUAGES}
