"""Keywords by counting: a baseline that needs no language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pmg.domain import Example, Item, Keywords
from pmg.preferences.scenarios import Scenario


def count_keywords(example: Example, scenario: Scenario, at_most: int = 8) -> Keywords:
    """Returns the most frequent facts or keywords of a user's liked items.

    For each attribute of the scenario that is a fact of the items, its most frequent value; if no attribute is a fact,
    the most frequent keywords of the items.

    Args:
        example: has the history.
        scenario: has the attributes, in order.
        at_most: maximum number of words.

    Returns:
        Words with their relative frequency as scores; of equals the earliest one.
    """
    items = [interaction.item for interaction in example.history if interaction.liked]
    counted = [_most_frequent(items, name) for name in scenario.attributes]
    found = [pair for pair in counted if pair] or Counter(
        word for item in items for word in dict.fromkeys(item.keywords)
    ).most_common(at_most)
    return Keywords(
        words=tuple(word for word, _ in found[:at_most]),
        scores=tuple(count / len(items) for _, count in found[:at_most]),
    )


def _most_frequent(items: Sequence[Item], fact: str) -> tuple[str, int] | None:
    counted = Counter(item.facts[fact] for item in items if fact in item.facts).most_common(1)
    return counted[0] if counted else None
