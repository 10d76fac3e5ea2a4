"""Captions of what a catalogue's images show."""

from __future__ import annotations

from pmg.domain import Item


def target_captions(item: Item, scene: str, keywords: int = 3) -> list[str]:
    """Returns captions of what an image shows, from the title alone to title, keywords and scene words."""
    words = [item.title, *item.keywords[:keywords]]
    longer = ", ".join(words)
    turned = ", ".join([item.title, *reversed(item.keywords[:keywords])])
    return [item.title, f"{item.title}, {scene}", f"{longer}, {scene}", f"{turned}, {scene}"]
