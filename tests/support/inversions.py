"""What tests of textual inversion share."""

from __future__ import annotations

from types import SimpleNamespace

from pmg.training.inversion import TextualInversion


def start_of(text_encoder, word):
    """Returns what the tokens of a word begin as."""
    found = TextualInversion(SimpleNamespace(text_encoder=text_encoder), word, tokens=2).start(3)
    assert found.shape == (3, 2, text_encoder.width)
    return found[2, 1]
