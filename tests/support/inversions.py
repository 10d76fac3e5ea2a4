"""What tests of textual inversion share."""

from __future__ import annotations

from pmg.methods.inversion import InvertedTokens


def start_of(text_encoder, word):
    """Returns what the tokens of a word begin as."""
    found = InvertedTokens(word, tokens=2).start(text_encoder, 3)
    assert found.shape == (3, 2, text_encoder.width)
    return found[2, 1]
