"""Preference sources of keywords, see `pmg.preferences.sources`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pmg.configuration.ranges import Count
from pmg.domain import Keywords
from pmg.preferences.keyword_counting import count_keywords
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keywords import LIMIT, NO_WORDS, join_words
from pmg.preferences.sources import KeywordSource, Requirements, SourceContext


@dataclass(frozen=True)
class LikedKeywords(KeywordSource):
    """Keywords that the language model extracts from the liked items of a history.

    Attributes:
        decoding: from attributes to keywords.
    """

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
    """The scenario's negative prompt, and keywords that the language model extracts from the disliked items.

    Words that are liked, too, are left out.

    Attributes:
        decoding: from attributes to keywords.
    """

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
    """The most frequent attributes of a history, counted without a language model: a baseline.

    Attributes:
        limit: keywords at most.
    """

    limit: Count = LIMIT

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the counted keywords, see `count_keywords`."""
        scenario, budget = context.extractor.scenario, context.extractor.budget
        counted = (count_keywords(each, scenario, context.captions, self.limit) for each in context.examples)
        return [budget.fit(words) for words in counted]


def negative_prompt(text: str) -> Keywords:
    """Returns a scenario's negative prompt as a single keyword; no words where it is empty."""
    return Keywords((text,)) if text else NO_WORDS
