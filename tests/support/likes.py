"""What people liked, by names of items."""

from __future__ import annotations

from pmg.data.dataset import Timeline
from pmg.domain import Interaction, Item


def timeline(user, names, disliked=()):
    """A user's likes in the order of their names, with some dislikes before them."""
    items = [(Item(name, name, name), False) for name in disliked] + [(Item(name, name, name), True) for name in names]
    return Timeline(user, tuple(Interaction(item, timestamp=t, liked=good) for t, (item, good) in enumerate(items)))
