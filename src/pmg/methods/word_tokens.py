"""The tokens of a text alone, without those that a text encoder puts around every text."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pmg.models.diffusion.interfaces import PromptEncoder


def own_tokens(encoder: PromptEncoder, texts: Sequence[str]) -> list[Tensor]:
    """Returns the encoded tokens of each text, `(L_i, D)`, without what an empty text begins and ends with, too."""
    empty, found = encoder.token_ids(""), []
    for text, tokens in zip(texts, encoder.encode(texts).tokens, strict=True):
        ids = encoder.token_ids(text)
        before = count_shared(ids, empty)
        after = count_shared(ids[before:][::-1], empty[before:][::-1])
        found.append(tokens[before : len(ids) - after])
    return found


def count_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns how many tokens both begin with."""
    return [*(a == b for a, b in zip(one, other, strict=False)), False].index(False)
