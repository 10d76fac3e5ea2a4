"""Keywords by counting: a baseline that needs no language model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from pmg.domain import UNKNOWN, Example, Keywords
from pmg.preferences.scenarios import Scenario

PARTS = re.compile(r"[,;]\s*")  # of a caption
LABEL = re.compile(r"^[^:]*:\s*")  # in front of a part, as in "ground: white ground"


def count_keywords(
    example: Example, scenario: Scenario, captions: Mapping[str, str] | None = None, at_most: int = 8
) -> Keywords:
    """Returns the most frequent attributes of a user's liked items.

    For each attribute of the scenario its most frequent value: of the items' facts of that name, or of the attribute's
    options among the parts of their captions. Where there is none of any attribute, the most frequent keywords of the
    items.

    Args:
        example: has the history, of which the latest `scenario.max_items` liked items count, as in prompts.
        scenario: has the attributes, in order.
        captions: each item's caption by its id; None: there are none.
        at_most: maximum number of words.

    Returns:
        Words with their relative frequency as scores; of equals the earliest one.
    """
    items = example.liked[-scenario.max_items :]
    parts = [_parts((captions or {}).get(item.id, "")) for item in items]
    counted = [
        _most_frequent([item.facts[name] for item in items if item.facts.get(name, UNKNOWN) != UNKNOWN])
        or _most_frequent([option for each in parts for option in attribute.options if option in each])
        for name, attribute in scenario.attributes.items()
    ]
    found = [pair for pair in counted if pair] or Counter(
        word for item in items for word in dict.fromkeys(item.keywords)
    ).most_common(at_most)
    return Keywords(
        words=tuple(word for word, _ in found[:at_most]),
        scores=tuple(count / len(items) for _, count in found[:at_most]),
    )


def _parts(caption: str) -> set[str]:
    """Returns the parts of a caption between commas or semicolons, without their labels."""
    return {LABEL.sub("", part).strip() for part in PARTS.split(caption)}


def _most_frequent(values: Sequence[str]) -> tuple[str, int] | None:
    counted = Counter(values).most_common(1)
    return counted[0] if counted else None
