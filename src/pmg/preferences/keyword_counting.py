"""Keywords by counting: a baseline that needs no language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pmg.domain import Example, Item, Keywords
from pmg.preferences.scenarios import Scenario


def count_keywords(example: Example, scenario: Scenario, at_most: int = 8) -> Keywords:
    """What a user's liked items have most often.

    Where the catalogue knows an attribute of the scenario as a fact of its items, the most frequent value is taken,
    one an attribute. Where it knows none, the most frequent keywords of the items are.

    Args:
        example: its history is counted.
        scenario: its attributes, in order.
        at_most: so many words.

    Returns:
        Words with their share of the history as scores; of equals the one met first.
    """
    items = [behavior.item for behavior in example.history if behavior.liked]
    counted = [_most_frequent(items, name) for name in scenario.attributes]
    found = [pair for pair in counted if pair] or Counter(
        word for item in items for word in dict.fromkeys(item.keywords)
    ).most_common(at_most)
    return Keywords(
        words=tuple(word for word, _ in found[:at_most]),
        scores=tuple(count / len(items) for _, count in found[:at_most]),
    )


def _most_frequent(items: Sequence[Item], fact: str) -> tuple[str, int] | None:
    known = Counter(item.facts[fact] for item in items if fact in item.facts).most_common(1)
    return known[0] if known else None
