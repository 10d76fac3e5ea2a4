"""Data classes of personalised generation, without torch and config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNKNOWN = "unknown"  # in the place of a fact that an item lacks


class PmgError(Exception):
    """An error that users can resolve: commands print its message in one line and exit with code 1."""


def require_positive(**counts: int | None) -> None:
    """Checks that counts, named by their config keys, are 1 or more, or None: all; else raises PmgError."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise PmgError(f"{name} must be at least 1, got {count}")


@dataclass(frozen=True, slots=True)
class Item:
    """An item that users interact with: a sticker, a film, a garment.

    Attributes:
        id: unique within its catalogue; also the key of its image.
        concept: its content, e.g. ``"red-apple"``; the same for all images of one concept.
        title: display name.
        keywords: words that describe its content, most specific first.
        topic: its group, e.g. a Unicode subgroup or a genre.
        facts: named properties for captions, e.g. ``{"pack": "Noto", "shading": "flat"}``.
    """

    id: str
    concept: str
    title: str
    keywords: tuple[str, ...] = ()
    topic: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interaction:
    """An interaction of a user with an item.

    Attributes:
        item: the item.
        action: verb of the interaction, e.g. ``"sent"`` or ``"rated 4.5"``.
        timestamp: seconds since the epoch; the place in its order where data has no times.
        liked: False for a dislike: a low rating, an item hidden or returned.
    """

    item: Item
    action: str = "sent"
    timestamp: int = 0
    liked: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `speaker` is the writer's name in the chat."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One sample: a user's history and a target, for which an image is generated.

    Attributes:
        id: unique within a split.
        user: the user's id.
        history: interactions, oldest first; may be empty with a conversation.
        target: the item to generate. Models don't get its own image at test time.
        truth: the target in the user's taste (the ground truth), items whose pictures are compared with what was
            drawn; empty for a conversation.
        labels: values for the evaluation only (kind of taste, taste in words), by name; models don't get them.
        conversation: the chat that the target answers, oldest turn first.
        moment: identifies one of several histories of a user, e.g. a window's start; empty for a single history.
    """

    id: str
    user: str
    history: tuple[Interaction, ...]
    target: Item
    truth: tuple[Item, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    conversation: tuple[Turn, ...] = ()
    moment: str = ""

    @property
    def profile(self) -> str:
        """Identifier of history and conversation, which all examples of a profile have in common."""
        return f"{self.user}@{self.moment}" if self.moment else self.user

    @property
    def liked(self) -> tuple[Item, ...]:
        """Items of the history that the user liked, oldest first."""
        return tuple(interaction.item for interaction in self.history if interaction.liked)

    @property
    def disliked(self) -> tuple[Item, ...]:
        """Items of the history that the user disliked, oldest first."""
        return tuple(interaction.item for interaction in self.history if not interaction.liked)


@dataclass(frozen=True, slots=True)
class Keywords:
    """Explicit preference or target keywords, with the score that chose each of them.

    `scores` are log-probabilities; 0 if no model chose a word (counted words: their share of the items, above 0);
    empty: 0 for all. `dropped` were left out so that a text encoder can read the others whole. `note` is what the user
    should be told, e.g. of messages in which no wish was found.
    """

    words: tuple[str, ...]
    scores: tuple[float, ...] = ()
    dropped: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return ", ".join(self.words)
