"""Preference sources of keywords, see `pmg.preferences.sources`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pmg.configuration.ranges import Count
from pmg.domain import UNKNOWN, Example, Keywords
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keywords import LIMIT, NO_WORDS, from_pairs, join_words
from pmg.preferences.scenarios import Scenario
from pmg.preferences.sources import KeywordSource, Requirements, SourceContext

PARTS = re.compile(r"[,;]\s*")  # of a caption
LABEL = re.compile(r"^[^:]*:\s*")  # in front of a part, as in "ground: white ground"


@dataclass(frozen=True)
class LikedKeywords(KeywordSource):
    """Keywords that the language model extracts from the liked items of a history."""

    decoding: Decoding

    @property
    def requires(self) -> Requirements:
        """The likes, decoded."""
        return Requirements(decodings=(self.decoding,))

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns what was decoded while histories were prefilled."""
        return context.extracted.keywords(self.decoding)


@dataclass(frozen=True)
class DislikedKeywords(KeywordSource):
    """The scenario's negative prompt, and keywords of the disliked items without those that are liked, too."""

    decoding: Decoding

    @property
    def requires(self) -> Requirements:
        """The dislikes, decoded."""
        return Requirements(dislikes=(self.decoding,))

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the negative keywords; where a user dislikes nothing, the negative prompt alone."""
        prompt, fit = negative_prompt(context.extractor.scenario.negative_prompt), context.extractor.budget.fit
        return [fit(join_words(prompt, words)) for words in context.extracted.negative(self.decoding)]


@dataclass(frozen=True)
class CountedKeywords(KeywordSource):
    """The most frequent attributes of a history, counted without a language model: a baseline."""

    limit: Count = LIMIT

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the counted keywords, see `count_keywords`."""
        scenario, budget = context.extractor.scenario, context.extractor.budget
        counted = (count_keywords(each, scenario, context.captions, self.limit) for each in context.examples)
        return [budget.fit(words) for words in counted]


def negative_prompt(text: str) -> Keywords:
    """Returns a scenario's negative prompt as a single keyword; no words where it is empty."""
    return Keywords((text,)) if text else NO_WORDS


def count_keywords(
    example: Example, scenario: Scenario, captions: Mapping[str, str] | None = None, at_most: int = 8
) -> Keywords:
    """Returns the most frequent attributes of a user's liked items, with relative frequencies as scores.

    For each attribute of the scenario its most frequent value: of the items' facts of that name, or of the attribute's
    options among the parts of their captions. Where there is none of any attribute, the most frequent keywords of the
    items. The latest `scenario.max_items` liked items count, as in prompts; at most `at_most` words are returned.
    """
    items = example.liked[-scenario.max_items :]
    parts = [caption_parts((captions or {}).get(item.id, "")) for item in items]
    counted = [
        _most_frequent([item.facts[name] for item in items if item.facts.get(name, UNKNOWN) != UNKNOWN])
        or _most_frequent([option for each in parts for option in attribute.options if option in each])
        for name, attribute in scenario.attributes.items()
    ]
    found = [pair for pair in counted if pair] or Counter(
        word for item in items for word in dict.fromkeys(item.keywords)
    ).most_common(at_most)
    return from_pairs([(word, count / len(items)) for word, count in found[:at_most]])


def caption_parts(caption: str) -> set[str]:
    """Returns the parts of a caption between commas or semicolons, without their labels."""
    return {LABEL.sub("", part).strip() for part in PARTS.split(caption)}


def _most_frequent(values: Sequence[str]) -> tuple[str, int] | None:
    counted = Counter(values).most_common(1)
    return counted[0] if counted else None
