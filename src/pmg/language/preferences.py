"""What the language model makes of users and targets: contexts and keywords, cached chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import track

from pmg.cache import Cache
from pmg.domain import Example, Item, Keywords
from pmg.language.keywords import preference_keywords, target_keywords
from pmg.language.verbalize import Scenario, verbalize_history
from pmg.models.context import Context
from pmg.models.language_model import LanguageModel

CHUNK = 50  # users a cache entry: small enough that little is lost when a run is stopped


@dataclass(frozen=True)
class Readings:
    """What was read of `U` users.

    Attributes:
        users: their ids.
        context: their prefilled histories.
        keywords: their explicit preference.
    """

    users: list[str]
    context: Context
    keywords: list[Keywords]

    def rows(self, users: Sequence[str]) -> list[int]:
        """Row of each of `users`."""
        index = {user: row for row, user in enumerate(self.users)}
        return [index[user] for user in users]


class Reader:
    """Reads histories with a frozen language model.

    Args:
        language_model: the model.
        scenario: prompts.
        cache: keeps contexts between runs.
        identity: names the model in cache keys, e.g. its source and dtype.
    """

    def __init__(self, language_model: LanguageModel, scenario: Scenario, cache: Cache, identity: str) -> None:
        self.language_model, self.scenario, self.cache, self.identity = (
            language_model,
            scenario,
            cache,
            identity,
        )

    def read(self, examples: Sequence[Example]) -> Readings:
        """Reads each user of `examples` once."""
        firsts = list({example.user: example for example in reversed(examples)}.values())[::-1]
        texts = [verbalize_history(example, self.scenario) for example in firsts]
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        contexts, keywords = [], []
        for chunk in track(chunks, description="Reading histories"):
            context = self._prefill(chunk)
            contexts.append(context)
            keywords += preference_keywords(self.language_model, context, self.scenario)
        return Readings([example.user for example in firsts], Context.concatenate(contexts), keywords)

    def _prefill(self, texts: list[str]) -> Context:
        def compute() -> dict:
            return self.language_model.prefill(texts).to_tensors()

        key = Cache.key(kind="context", model=self.identity, texts=texts)
        return Context.from_tensors(self.cache.fetch(key, compute))

    def describe(self, items: Sequence[Item]) -> dict[str, Keywords]:
        """Target keywords of each different concept among `items`, by concept."""
        unique = list({item.concept: item for item in items}.values())
        keywords = target_keywords(self.language_model, unique, self.scenario)
        return {item.concept: words for item, words in zip(unique, keywords, strict=True)}
