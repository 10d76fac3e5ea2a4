"""The nouns of personalised generation, as plain data (no torch, no config)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class PmgError(Exception):
    """An error a user can act on: commands print its message as one line and exit with code 1."""


def require_positive(**counts: int | None) -> None:
    """Checks counts, named by their config keys; None means all.

    Raises:
        PmgError: one is below 1.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise PmgError(f"{name} must be at least 1, got {count}")


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
    """One thing a user did with an item.

    Attributes:
        item: the item.
        action: what they did, e.g. ``"sent"`` or ``"rated 4.5"``.
        timestamp: when, in seconds since the epoch.
        liked: False for a dislike: a low rating, an item hidden or returned.
    """

    item: Item
    action: str = "sent"
    timestamp: int = 0
    liked: bool = True


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        speaker: who wrote it, as the chat names them.
        text: what they wrote.
    """

    speaker: str
    text: str


@dataclass(frozen=True)
class Example:
    """One question to the generator: what should `target` look like for this user?

    Attributes:
        id: unique within a split.
        user: the user's id.
        history: what the user did, oldest first; may be empty where there is a conversation.
        target: what to draw. Its own image is never shown to a model at test time.
        truth: drawings of the target that fit the user's taste (the ground truth); empty for a chat, which has none.
        labels: facts for evaluation alone (kind of taste, taste in words); no model may read them.
        conversation: the chat that the target is for, oldest turn first.
        moment: which of the user's histories this is, e.g. a window's start; empty: they have one.
    """

    id: str
    user: str
    history: tuple[Behavior, ...]
    target: Item
    truth: tuple[Item, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    conversation: tuple[Turn, ...] = ()
    moment: str = ""

    @property
    def profile(self) -> str:
        """Names what can be read of the user: examples of one profile share history and conversation."""
        return f"{self.user}@{self.moment}" if self.moment else self.user

    @property
    def liked(self) -> tuple[Item, ...]:
        """Items of the history that the user liked, oldest first."""
        return tuple(behavior.item for behavior in self.history if behavior.liked)

    @property
    def disliked(self) -> tuple[Item, ...]:
        """Items of the history that the user disliked, oldest first."""
        return tuple(behavior.item for behavior in self.history if not behavior.liked)


@dataclass(frozen=True)
class Keywords:
    """Explicit preference or target keywords, with the score that chose each of them.

    Attributes:
        words: the keywords.
        scores: one a word, or none.
        dropped: words that were left out so that a text encoder can read the others whole.
    """

    words: tuple[str, ...]
    scores: tuple[float, ...] = ()
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.words)
