"""Captions of the catalogue's images: what they show, and in which style.

A caption has three parts, each a block of its own in the generator's condition: the target, the attributes that
several artists share, and the artist's own style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from pmg.data.emoji.tastes import style_words
from pmg.domain import Item

ATTRIBUTES = ("colour", "outline", "shading")


def target_captions(item: Item, scene: str, keywords: int = 3) -> list[str]:
    """Returns captions of what an image shows, from the title alone to title, keywords and scene words."""
    words = [item.title, *item.keywords[:keywords]]
    longer = ", ".join(words)
    turned = ", ".join([item.title, *reversed(item.keywords[:keywords])])
    return [item.title, f"{item.title}, {scene}", f"{longer}, {scene}", f"{turned}, {scene}"]


def attribute_captions(facts: Mapping[str, str]) -> list[str]:
    """Returns every non-empty combination of a style's attributes, in a fixed order."""
    words = [facts[name] for name in ATTRIBUTES]
    return [", ".join(some) for size in range(1, len(words) + 1) for some in combinations(words, size)]


def artist_style_captions(facts: Mapping[str, str]) -> list[str]:
    """Returns the artist's style alone, and behind the attributes."""
    return [facts["artist_style"], style_words(facts)]


def caption_table(captions: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    """Flattens lists of captions; returns all texts and each list's positions among them."""
    texts: list[str] = []
    positions: list[list[int]] = []
    for row in captions:
        positions.append(list(range(len(texts), len(texts) + len(row))))
        texts += row
    return texts, positions
