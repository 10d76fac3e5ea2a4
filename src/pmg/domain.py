"""The nouns of personalised generation, as plain data (no torch, no config)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class PmgError(Exception):
    """An error a user can act on: commands print its message as one line and exit with code 1."""


@dataclass(frozen=True)
class Item:
    """One thing a user can meet: a sticker, a film, a garment.

    Attributes:
        id: unique within its catalogue; also the key of its image.
        concept: what it shows, e.g. ``"red-apple"``; drawings of one concept share it.
        title: the name people read.
        keywords: words that describe its content, most specific first.
        topic: the group it belongs to, e.g. a Unicode subgroup or a genre.
        facts: what the history text may say about it, e.g. ``{"pack": "Noto", "shading": "flat"}``.
    """

    id: str
    concept: str
    title: str
    keywords: tuple[str, ...] = ()
    topic: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Behavior:
    """One thing a user did with an item, at a time (seconds since the epoch)."""

    item: Item
    action: str = "sent"
    timestamp: int = 0


@dataclass(frozen=True)
class Example:
    """One question to the generator: what should `target` look like for this user?

    Attributes:
        id: unique within a split.
        user: the user's id.
        history: what the user did, oldest first.
        target: what to draw. Its own image is never shown to a model at test time.
        truth: drawings of the target that fit the user's taste (the ground truth), never empty.
        labels: facts for evaluation alone (kind of taste, taste in words); no model may read them.
    """

    id: str
    user: str
    history: tuple[Behavior, ...]
    target: Item
    truth: tuple[Item, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Keywords:
    """Explicit preference or target keywords, with the score that chose each of them."""

    words: tuple[str, ...]
    scores: tuple[float, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.words)
