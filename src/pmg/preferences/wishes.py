"""Wishes: which attributes a user's messages speak of, and which options they ask for.

A message is a change: an attribute that no message speaks of stays as the user's pictures show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pmg.domain import Example, Keywords
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.keyword_sources import caption_parts
from pmg.preferences.scenarios import Attribute
from pmg.preferences.sources import KeywordSource, SourceContext
from pmg.preferences.stated import own_messages


@dataclass(frozen=True)
class Wishes:
    """What the messages of a user ask for."""

    # by attribute that they speak of: the options that would do, at least one, in the order of the attribute
    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""  # what the user should be told, e.g. of messages without a wish; empty: nothing


class WishReader(Protocol):
    """Reads the wishes in messages."""

    def __call__(
        self, messages: Sequence[Sequence[str]], attributes: Mapping[str, Attribute], text_encoder: PromptEncoder
    ) -> Sequence[Wishes]:
        """Returns the wishes of each user, whose own messages these are, oldest first."""


@dataclass(frozen=True)
class SpokenKeywords(KeywordSource):
    """The options that messages ask for, as keywords; of attributes that no message speaks of there are none."""

    wishes: WishReader  # reads messages

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the chosen options of each user, see `choose_options`, with the note that they should be told."""
        attributes = context.extractor.scenario.attributes
        rows = read_wishes(context, self.wishes)
        chosen = [choose_options(wishes, shown, attributes) for wishes, shown in rows]
        return [
            context.extractor.budget.fit(Keywords(tuple(options.values()), note=wishes.note))
            for options, (wishes, _) in zip(chosen, rows, strict=True)
        ]


def read_wishes(context: SourceContext, reader: WishReader) -> list[tuple[Wishes, dict[str, Counter[str]]]]:
    """Returns each user's wishes, with what `count_shown` counts of them."""
    scenario = context.extractor.scenario
    messages = [own_messages(example.conversation) for example in context.examples]
    said = reader(messages, scenario.attributes, context.generator.text_encoder)
    shown = [
        count_shown(example, context.captions, scenario.attributes, scenario.max_items) for example in context.examples
    ]
    return list(zip(said, shown, strict=True))


def count_shown(
    example: Example, captions: Mapping[str, str], attributes: Mapping[str, Attribute], latest: int
) -> dict[str, Counter[str]]:
    """Returns how many of the captions of a user's `latest` liked items have which option of each attribute."""
    parts = [caption_parts(captions.get(item.id, "")) for item in example.liked[-latest:]]
    return {
        name: Counter(option for each in parts for option in one.options if option in each)
        for name, one in attributes.items()
    }


def choose_options(
    wishes: Wishes, shown: Mapping[str, Counter[str]], attributes: Mapping[str, Attribute]
) -> dict[str, str]:
    """Returns the option of each attribute that was spoken of, in the attributes' order.

    Of the options that would do, the one that most of the user's pictures show; where they show none of them, the one
    that has the most words in common with what they show the most, the first of equals.
    """
    chosen = {}
    for name in attributes:
        allowed = wishes.allowed.get(name, ())
        if allowed:
            chosen[name] = _nearest_to(shown.get(name) or Counter(), allowed)
    return chosen


def _nearest_to(counted: Counter[str], allowed: Sequence[str]) -> str:
    """Returns the option that was counted most; of equals the one with the most words of the commonest."""
    common = set(counted.most_common(1)[0][0].split()) if counted else set()
    return max(allowed, key=lambda option: (counted[option], len(common & set(option.split()))))
