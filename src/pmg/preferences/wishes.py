"""Wishes: which attributes a user's messages speak of, and which options they ask for.

A message is a change: an attribute that no message speaks of stays as the user's pictures show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pmg.configuration.ranges import Count, Positive
from pmg.domain import Example, Keywords
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.keyword_sources import caption_parts, count_keywords
from pmg.preferences.keywords import LIMIT, from_pairs, scored
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
        rows, fit = read_wishes(context, self.wishes), context.extractor.budget.fit
        return [fit(Keywords(tuple(options.values()), note=note)) for options, note in rows]


@dataclass(frozen=True)
class WishedKeywords(KeywordSource):
    """The whole look that is wanted: the options that messages ask for, and of other attributes what pictures show.

    Those of pictures are `CountedKeywords`; where messages ask for nothing, there are no others.
    """

    wishes: WishReader  # reads messages
    emphasis: Positive = 5.0  # weight of an option that is asked for; that of a counted one is its share of the items
    limit: Count = LIMIT

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the words of each user with their weights as scores."""
        scenario, found = context.extractor.scenario, []
        for example, (options, _) in zip(context.examples, read_wishes(context, self.wishes), strict=True):
            replaced = {option for name in options for option in scenario.attributes[name].options}
            counted = scored(count_keywords(example, scenario, context.captions, self.limit))
            kept = [pair for pair in counted if pair[0] not in replaced]
            pairs = [(option, self.emphasis) for option in options.values()] + kept
            found.append(context.extractor.budget.fit(from_pairs(pairs[: self.limit])))
        return found


def read_wishes(context: SourceContext, reader: WishReader) -> list[tuple[dict[str, str], str]]:
    """Returns the options that each user asks for, see `choose_options`, and what they should be told."""
    scenario = context.extractor.scenario
    messages = [own_messages(example.conversation) for example in context.examples]
    said = reader(messages, scenario.attributes, context.generator.text_encoder)
    found = []
    for example, wishes in zip(context.examples, said, strict=True):
        shown = count_shown(example, context.captions, scenario.attributes, scenario.max_items)
        found.append((choose_options(wishes, shown, scenario.attributes), wishes.note))
    return found


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
