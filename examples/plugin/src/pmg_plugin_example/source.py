"""A preference source: keywords of the items that a user liked last, without a language model."""

from collections.abc import Sequence
from dataclasses import dataclass

from pmg.configuration.ranges import Count
from pmg.domain import Keywords
from pmg.preferences.sources import KeywordSource, SourceContext


@dataclass(frozen=True)
class LatestKeywords(KeywordSource):
    """The keywords of the `items` latest likes, newest first."""

    items: Count = 2

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the keywords of each user, as many as the text encoder reads."""
        latest = [example.liked[: -self.items - 1 : -1] for example in context.examples]
        words = [dict.fromkeys(word for item in items for word in item.keywords) for items in latest]
        return [context.extractor.budget.fit(Keywords(tuple(found))) for found in words]
