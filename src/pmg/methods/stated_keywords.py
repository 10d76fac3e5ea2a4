"""What users state in messages, found by sentence embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pmg.domain import Keywords, PmgError
from pmg.preferences.sources import KeywordSource, SourceContext
from pmg.preferences.stated import own_messages


@dataclass(frozen=True)
class StatedKeywords(KeywordSource):
    """What a user's messages state, found by sentence embeddings (`MessageMatcher`): a baseline without training."""

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns of each attribute the option that messages stated last, certain; PmgError if they aren't matched."""
        scenario, matcher, budget = context.extractor.scenario, context.extractor.matcher, context.extractor.budget
        if matcher is None:
            raise PmgError(f"stated keywords need the cosine `match`, which the scenario '{scenario.name}' lacks")
        owner = {option: name for name, each in scenario.attributes.items() for option in each.options}
        found = []
        for example in context.examples:
            latest = {owner[one]: one for text in own_messages(example.conversation) for one in matcher([text])}
            found.append(budget.fit(Keywords(tuple(latest.values()), (0.0,) * len(latest))))
        return found
